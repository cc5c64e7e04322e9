"""Brings the things of all hosts into their declared state, one thread and one connection for each host."""
import hashlib
import io
import json
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor

from fabric import Connection
from paramiko import RejectPolicy


def connect(work, host):
    connection = Connection(
        host["address"], user=work["user"], port=host["port"],
        connect_kwargs={"key_filename": work["key"], "look_for_keys": False, "allow_agent": False},
    )
    connection.client.load_host_keys(work["known_hosts"])
    connection.client.set_missing_host_key_policy(RejectPolicy())
    return connection


def run(connection, command):
    return connection.run(command, hide=True, in_stream=False).stdout


def manage_file(connection, file):
    path = shlex.quote(file["Path"])
    content = file["Content"].encode()
    found = run(connection, f"sha256sum {path} 2>/dev/null; stat -c %04a {path} 2>/dev/null || true").split()
    digest = found[0] if found else ""
    mode = found[-1] if found else ""
    if digest == hashlib.sha256(content).hexdigest() and file["Mode"] in ("", mode):
        return False
    connection.put(io.BytesIO(content), file["Path"] + ".new")
    attributes = f"chmod {file['Mode']} {path}.new && " if file["Mode"] else ""
    run(connection, f"{attributes}mv {path}.new {path}")
    return True


def manage_host(work, host):
    with connect(work, host) as connection:
        changes = [manage_file(connection, file) for file in host["files"]]
        changes += [run(connection, script).strip() != "unchanged" for script in host["scripts"]]
    return changes


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        work = json.load(file)
    with ThreadPoolExecutor(max_workers=len(work["hosts"])) as pool:
        results = list(pool.map(lambda host: manage_host(work, host), work["hosts"]))
    changes = [change for host in results for change in host]
    print(json.dumps({"changed": sum(changes), "unchanged": len(changes) - sum(changes)}))


main()
