"""The health of tools.serve in a container: exit code 0 while a replica is ready; prints which ones are."""

import sys
from http.client import HTTPConnection

connection = HTTPConnection("127.0.0.1", 8003, timeout=2)
connection.request("GET", "/ready")
answer = connection.getresponse()
print(answer.read().decode())
sys.exit(answer.status != 200)
