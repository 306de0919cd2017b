"""The pages: correct an answer, look at samples, see how far it is. All of them work without a script, too."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, quote

from starlette.routing import Route

from aligner.building.reviewing.desk import Desk
from aligner.building.reviewing.fields import typed
from aligner.building.reviewing.tasks import REASONS, STEPS, GoneError, Sent, StepNumber, Task
from aligner.building.reviewing.visiting import (
    INSPECTS,
    LARGE_FORM,
    SMALL_FORM,
    Form,
    Visitor,
    form_of,
    name_cookie,
    named,
    sent_by,
    visitor,
)
from aligner.records import as_messages
from aligner.serving.admission import Admission
from aligner.serving.client import Client, Receive
from aligner.serving.endpoint import Endpoint, Scope, headers_of
from aligner.serving.pages.entering import first, local
from aligner.serving.pages.files import NOT_KEPT, SAFE, START, Templates, lead
from aligner.serving.shadow.word_diff import shown
from aligner.serving.wire import WireError

T = TypeVar("T")
Handle = Callable[[Scope, Receive, Client], Awaitable[None]]
HOME = "/annotate"
NOTES: Mapping[str, str] = {
    "sent": "Sent. Here is the next answer.",
    "step": "Sent. Now make it helpful.",
    "back": "Back at the first step. Your second step comes back, too, if you send this text as it is.",
    "passed": "Left to somebody else.",
    "taken": "You left this one to others, and nobody took it. Left again, it is given up.",
    "looked": "Noted.",
    "old": "The page was too old, and nothing was sent. What you typed is still in this browser: send it again.",
    "gone": "That was sent before, or the answer is with somebody else by now. Here is what is with you.",
}
_EMPTY = "A correction has some text. Where an answer should not be corrected at all, leave it to somebody else."
_SAME = "Nothing was changed in the text. Change it, or say that it can stay as it is."
_CHANGED = "The text was changed. Send your edit, or press once more that the text is to stay as it was."
_LONGEST_COMMENT = 2000


@dataclass(frozen=True, slots=True)
class Pages:
    """What is shown to people, and what they send."""

    admission: Admission
    templates: Templates
    desk: Desk
    thread: ThreadPoolExecutor
    """the one that may use the desk"""
    principles: Sequence[tuple[str, Sequence[str]]]
    """names, and what each says"""

    @property
    def routes(self) -> list[Route]:
        """What is answered where."""
        shown_at: Mapping[str, Handle] = {
            HOME: self.annotate,
            "/inspect": self.inspect,
            "/progress": self.progress,
            "/name": self.ask_for_name,
            "/": self.enter,
            START: self.enter,
        }
        sent_to: Mapping[str, Handle] = {
            HOME: self.sent,
            f"{HOME}/held": self.held,
            f"{HOME}/back": self.taken_back,
            "/inspect": self.looked,
            "/name": self.called,
        }
        return [
            Route(path, Endpoint(handle, None), methods=[method])
            for method, handled in (("GET", shown_at), ("POST", sent_to))
            for path, handle in handled.items()
        ]

    async def enter(self, _: Scope, __: Receive, client: Client) -> None:
        """/, and where the form for keys leads: the first page."""
        await lead(client, HOME)

    async def annotate(self, scope: Scope, _: Receive, client: Client) -> None:
        """GET /annotate: the answer that this person has to correct."""
        if (who := await visitor(self.admission, scope, client)) is not None:
            task, note = await self._ask(lambda: self._wanted(_asked(scope, "key"), who.name))
            await self._task(client, who, task, NOTES.get(note or _asked(scope, "note"), ""))

    async def sent(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /annotate: one step, a way back, or an answer that is left to others."""
        if (found := await sent_by(self.admission, scope, receive, client, LARGE_FORM)) is None:
            return
        who, form = found
        action, sent = first(form, "action"), _sent_in(form)
        try:
            note = await self._ask(lambda: self._done(action, sent, who.name, sure=first(form, "sure")))
        except GoneError:
            note = "gone"
        if note in NOTES:
            # Whoever was late goes on with it all the same.
            goes_on = f"&key={quote(sent.key, safe='')}" if note in ("step", "back") else ""
            await lead(client, f"{HOME}?note={note}{goes_on}")
            return
        task = await self._ask(lambda: self.desk.again(sent, who.name))
        await self._task(client, who, task, note, sure=first(form, "action"), status=400)

    async def held(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /annotate/held: somebody is at work on what they have; 204, or 410 where others have it by now."""
        if (found := await sent_by(self.admission, scope, receive, client, SMALL_FORM)) is None:
            return
        who, form = found
        is_theirs = await self._ask(lambda: self.desk.hold(first(form, "key"), who.name))
        await client.answer(204 if is_theirs else 410, [NOT_KEPT, *SAFE], b"")

    async def taken_back(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /annotate/back: an answer that this person left to others, and that nobody took."""
        if (found := await sent_by(self.admission, scope, receive, client, SMALL_FORM)) is None:
            return
        is_there = await self._ask(lambda: self.desk.take_back(found[0].name))
        await lead(client, f"{HOME}?note={'taken' if is_there else 'gone'}")

    async def inspect(self, scope: Scope, _: Receive, client: Client) -> None:
        """GET /inspect: a correction by somebody else."""
        if (who := await visitor(self.admission, scope, client)) is None:
            return
        self._check_inspects(who)
        sample = await self._ask(lambda: self.desk.sample(who.name))
        turns = () if sample is None else as_messages(sample.question)
        note = NOTES.get(_asked(scope, "note"), "")
        await self._show(client, "inspect", who, sample=sample, turns=turns, note=note)

    async def looked(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /inspect: whether an inspector agrees."""
        if (found := await sent_by(self.admission, scope, receive, client, SMALL_FORM)) is None:
            return
        who, form = found
        self._check_inspects(who)
        number, action = first(form, "number"), first(form, "action")
        if not number.isdecimal() or len(number) > 18 or action not in ("agree", "disagree"):
            raise WireError(400, "the form says nothing that can be noted", "wrong_value")
        comment = first(form, "comment")[:_LONGEST_COMMENT]
        try:
            agrees = action == "agree"
            await self._ask(lambda: self.desk.look(int(number), who.name, agrees=agrees, comment=comment))
        except GoneError:
            await lead(client, "/inspect?note=gone")
            return
        await lead(client, "/inspect?note=looked")

    async def progress(self, scope: Scope, _: Receive, client: Client) -> None:
        """GET /progress: how far it is; inspectors see what each person has done, others only themselves."""
        if (who := await visitor(self.admission, scope, client)) is None:
            return
        figures, everybody = await self._ask(self.desk.progress)
        inspects = who.caller.may(INSPECTS)
        people = [each for each in everybody if inspects or each.name == who.name]
        remarks = await self._ask(self.desk.remarks) if inspects else []
        await self._show(client, "progress", who, figures=figures, people=people, remarks=remarks)

    async def ask_for_name(self, scope: Scope, _: Receive, client: Client) -> None:
        """GET /name: who are you? Asked only where no key says it."""
        wanted = local(first(parse_qs(scope["query_string"].decode("latin-1")), "next"))
        if self.admission.keys.are_needed:
            await lead(client, HOME)
            return
        await self._name(client, wanted)

    async def called(self, scope: Scope, receive: Receive, client: Client) -> None:
        """POST /name: what somebody wants to be called."""
        if self.admission.keys.are_needed:
            await lead(client, HOME)
            return
        self.admission.admit(dict(headers_of(scope)), scope["method"], scope["path"])
        form = await form_of(scope, receive, SMALL_FORM)
        wanted = local(first(form, "next"))
        if not (name := named(first(form, "name"))):
            await self._name(client, wanted, "A name has at least one sign that can be seen.", status=400)
            return
        await lead(client, wanted, name_cookie(name, scope))

    def _wanted(self, key: str, person: str) -> tuple[Task | None, str]:
        """The task that is asked for, or else the next one, and a note where the one that is asked for is gone."""
        try:
            return (self.desk.open_again(key, person), "") if key else (self.desk.take(person), "")
        except GoneError:
            return self.desk.take(person), "gone"

    def _done(self, action: str, sent: Sent, person: str, *, sure: str) -> str:
        """Do what a form asks for, and say which note follows, or what is wrong."""
        if action == "back":
            self.desk.back(sent, person)
            return "back"
        if action == "pass":
            self.desk.pass_on(sent.key, person, sent.comment)
            return "passed"
        task = self.desk.again(sent, person)
        if task is None:
            return "gone"
        is_same = typed(sent.text) == typed(task.base)
        if sent.choice == "keep" and not is_same and sure != "keep":
            return _CHANGED
        if sent.choice == "edit" and (is_same or not sent.text.strip()):
            return _SAME if is_same else _EMPTY
        return "sent" if self.desk.send(sent, person) else "step"

    async def _task(
        self, client: Client, who: Visitor, task: Task | None, note: str, *, sure: str = "", status: int = 200
    ) -> None:
        if task is None:
            may_take_back = await self._ask(lambda: self.desk.may_take_back(who.name))
            await self._show(client, "nothing", who, note=note, may_take_back=may_take_back)
            return
        told = {
            "task": task,
            "turns": as_messages(task.question),
            "text": typed(task.text),
            "hold_every": self.desk.hold_every,
            "is_strange": shown(task.base) != task.base,
            "steps": STEPS,
            "reasons": REASONS[task.step],
            "principles": self.principles,
            "sure": sure,
            "note": note,
            "is_wrong": status != 200,
        }
        await self._show(client, "annotate", who, status=status, **told)

    async def _name(self, client: Client, wanted: str, problem: str = "", status: int = 200) -> None:
        told = {"next": wanted, "error": problem, "caller": None, "csrf": "", "person": ""}
        await self.templates.show(client, "name", status=status, **told)

    async def _show(self, client: Client, page: str, who: Visitor, *, status: int = 200, **told: Any) -> None:
        left = await self._ask(self.desk.left)
        may_inspect = who.caller.may(INSPECTS)
        given = {"caller": who.caller, "person": who.name, "csrf": who.csrf, "may_inspect": may_inspect, "left": left}
        await self.templates.show(client, page, status=status, **given, **told)

    def _check_inspects(self, who: Visitor) -> None:
        if not who.caller.may(INSPECTS):
            raise WireError(403, f"this needs a key with the role {INSPECTS}", "role_needed")

    async def _ask(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.thread, work)


def _sent_in(form: Form) -> Sent:
    """What a form says; raises WireError, 400, where no page of ours made it."""
    step, action = first(form, "step"), first(form, "action")
    if step not in ("1", "2") or action not in ("keep", "edit", "back", "pass"):
        raise WireError(400, "the form says nothing that can be noted", "wrong_value")
    number = cast("StepNumber", int(step))
    return Sent(
        key=first(form, "key"),
        step=number,
        choice="keep" if action == "keep" else "edit",
        text=first(form, "text"),
        reasons=tuple(each for each in REASONS[number] if each in form.get("reason", ())),
        comment=typed(first(form, "comment"))[:_LONGEST_COMMENT].strip(),
    )


def _asked(scope: Scope, name: str) -> str:
    return first(parse_qs(scope["query_string"].decode("latin-1")), name)
