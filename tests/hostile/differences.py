"""Where a wrong argument gets another answer than asyncio's, and why."""

from __future__ import annotations

import re

# What a case's name matches, and the reason.
KNOWN = {
    r"call_(at|later)\((when|delay)=": "what is no time is refused at once; asyncio's loop dies",
    r"gather(_one)?\(return_exceptions=(released|dead_proxy)": "looked at when it is passed",
    r"sleep\(delay=(nan|float_subclass)": "NaN is no time; a millisecond may be enough",
    r"sock_sendall\(data=(integers_view|two_dimensions|array)": "asyncio counts items, for ever",
    r"ssl_handshake_timeout=float_subclass": "a millisecond may be enough",
    r"set_debug\(enabled=": "looked at when it is set",
    r"server_side=released": "looked at when it is passed",
    r"getaddrinfo\(flags=minus_int70": "the harness's own flag in it",
    r"set_task_factory\(factory=loop_type": "names the class",
    r"write(lines)?\((data|list_of_data)=strided": "refused, and nothing is lost",
    r"(write|sendto)\(data=(loop|dead_proxy)": "names the class; a dead proxy is of no kind",
    r"writelines\(list_of_data=(released|future)": "the same refusal for all that is no list",
    r"tls.writelines\(list_of_data=": "refused, and the connection goes on",
    r"write_pipe.write\(data=(integers_view|two_dimensions)": "asyncio counts items, for ever",
    r"send_signal\(signal=int31": "no such number",
    r"get_pid\(": "another process",
    r"subprocess_(exec|shell)\(": "a process ends when it likes",
    r"run_until_complete\(\*20": "the loop is stopped by a timer of the harness",
}


def reason(case):
    return next((why for pattern, why in KNOWN.items() if re.search(pattern, case)), None)
