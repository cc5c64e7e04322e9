"""Accepts security contexts by MIT's GSS-API: a request a line, an answer a line, in JSON."""
import base64
import json
import sys

import gssapi.raw as gss

credential = gss.acquire_cred(None, usage="accept").creds
contexts = {}
text = lambda data: None if data is None else base64.b64encode(data).decode()
data = lambda text: None if text is None else base64.b64decode(text)


def accept(q):
    bindings = None
    if q.get("bindings") is not None:
        bindings = gss.ChannelBindings(application_data=data(q["bindings"]))
    result = gss.accept_sec_context(data(q["token"]), credential, None, bindings)
    if result.more_steps:
        raise ValueError("the logon wants another step")
    contexts[q["id"]] = result.context
    return {"token": text(result.token), "user": gss.display_name(result.initiator_name, name_type=False).name.decode()}


def open_(q):
    iov = gss.IOV((gss.IOVBufferType.header, False, data(q["signature"])), data(q["sealed"]), std_layout=False)
    result = gss.unwrap_iov(contexts[q["id"]], iov)
    if not result.encrypted:
        raise ValueError("signed only")
    return {"plain": text(iov[1].value)}


def seal(q):
    iov = gss.IOV(gss.IOVBufferType.header, data(q["plain"]), std_layout=False)
    gss.wrap_iov(contexts[q["id"]], iov, True, None)
    return {"signature": text(iov[0].value), "sealed": text(iov[1].value)}


def close(q):
    contexts.pop(q["id"], None)
    return {}


for line in sys.stdin:
    try:
        q = json.loads(line)
        answer = {"accept": accept, "open": open_, "seal": seal, "close": close}[q["do"]](q)
    except Exception as e:  # the caller is told
        answer = {"error": repr(e)}
    print(json.dumps(answer), flush=True)
