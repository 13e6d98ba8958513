"""One file for each command; this table is how a session finds them.

A handler answers at once and returns None, or returns the work that will. Either way it leaves the
machine answered: by `Session.ok`, `no`, `bad` and their kin, or by what the event names instead.
What it raises of `MailboxError` and `Fault` becomes its NO.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from posthouse.access.imap.commands import (
    append,
    authenticate,
    capability,
    check,
    close,
    copy,
    create,
    delete,
    enable,
    examine,
    expunge,
    fetch,
    id_,
    idle,
    list_,
    login,
    logout,
    lsub,
    move,
    namespace,
    noop,
    rename,
    search,
    select,
    starttls,
    status,
    store,
    subscribe,
    unselect,
    unsubscribe,
)
from posthouse.protocol.imap import events as e

HANDLERS: Final[dict[type[e.Event], Callable[[Any, Any], Any]]] = {
    e.Capability: capability.run,
    e.Noop: noop.run,
    e.Logout: logout.run,
    e.Id: id_.run,
    e.StartTls: starttls.run,
    e.Authenticate: authenticate.run,
    e.SaslResponse: authenticate.respond,
    e.SaslAborted: authenticate.abort,
    e.Login: login.run,
    e.Enable: enable.run,
    e.Select: select.run,
    e.Examine: examine.run,
    e.Create: create.run,
    e.Delete: delete.run,
    e.Rename: rename.run,
    e.Subscribe: subscribe.run,
    e.Unsubscribe: unsubscribe.run,
    e.List: list_.run,
    e.Lsub: lsub.run,
    e.Namespace: namespace.run,
    e.Status: status.run,
    e.AppendOffered: append.offered,
    e.Append: append.run,
    e.Idle: idle.run,
    e.IdleEnded: idle.end,
    e.Check: check.run,
    e.Close: close.run,
    e.Unselect: unselect.run,
    e.Expunge: expunge.run,
    e.Search: search.run,
    e.Fetch: fetch.run,
    e.Store: store.run,
    e.Copy: copy.run,
    e.Move: move.run,
}
