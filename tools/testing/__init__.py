"""A pytest plugin for any Triton repository: fixtures of a server, of its models, and of model.py files in process.

- plugin.py: options, fixtures and hooks; nothing heavy is imported before a test asks for it.
- target.py, served_model.py: the server that tests talk to, and assertions about one of its models.
- python_model.py, program.py: a model.py under test, however it runs.
- in_process.py with tensors.py, messages.py, metrics.py, backend_utils.py: run by this process.
- on_server.py, stand_in/: run by the real server, with other models played by functions of the test.
"""
