"""The health of tools.serve in a container: exit code 0 while a replica takes requests and none of its models is sick.

The watchdog has asked the models; this only asks the watchdog, because it runs every few seconds.
"""

import json
import sys
from urllib.request import urlopen

with urlopen("http://127.0.0.1:8003/status", timeout=2) as answer:
    replicas = json.load(answer)["replicas"]
states = {replica["name"]: replica["sick"] or replica["state"] for replica in replicas}
print(states)
sys.exit("up" not in states.values())
