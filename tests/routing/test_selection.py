"""Which deployment is next, in every state of all of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_common.routing import Choice, Refuse, Send, Wait, choose
from llm_common.types import Lane, Standing

PATIENCE_S, REMAINING_S = 10.0, 300.0


def lane(name: str) -> Lane:
    """`a1` is the first key of model a."""
    return Lane(id=name, group=name[0], label=name)


def chosen(states: dict[str, Standing], stay: str | None = None, remaining: float = 300) -> Choice:
    lanes = [lane(name) for name in states]
    return choose(
        lanes, [*states.values()], patience_s=PATIENCE_S, remaining_s=remaining, stay=stay
    )


FREE = Standing()
BUSY = Standing(load=(3, 5.0))


def blocked(seconds: float) -> Standing:
    return Standing(blocked_s=seconds)


def limited(seconds: float) -> Standing:
    return Standing(limited_s=seconds)


def test_the_preferred_models_key_whose_turn_it_is() -> None:
    used = {"a1": Standing(load=(0, 7.0)), "a2": Standing(load=(0, 3.0)), "b1": FREE}
    assert chosen(used) == Send(1)
    flying = {"a1": Standing(load=(1, 3.0)), "a2": Standing(load=(0, 7.0))}
    assert chosen(flying) == Send(1)
    assert chosen({"a1": FREE, "a2": FREE}) == Send(0)


def test_a_cooling_key_is_skipped_while_another_is_free() -> None:
    assert chosen({"a1": blocked(5), "a2": BUSY, "b1": FREE}) == Send(1)
    assert chosen({"a1": blocked(5), "a2": blocked(5), "b1": BUSY}) == Send(2)


def test_if_all_cool_down_the_first_to_be_free_is_waited_for_within_patience() -> None:
    assert chosen({"a1": blocked(9), "b1": blocked(4)}) == Wait(4)
    assert chosen({"a1": blocked(90), "b1": blocked(40)}) == Refuse(40, down=False)
    assert chosen({"a1": blocked(9)}, remaining=5) == Refuse(9, down=False)
    assert chosen({"a1": Standing(blocked_s=40, down=True)}) == Refuse(40, down=True)


def test_a_limit_of_the_hosts_own_is_waited_for_and_gives_way_beyond_patience() -> None:
    assert chosen({"a1": limited(9), "b1": FREE}) == Send(0)
    assert chosen({"a1": limited(11), "b1": FREE}) == Send(1)
    assert chosen({"a1": limited(9), "a2": BUSY}) == Send(1)
    assert chosen({"a1": limited(200), "b1": limited(100)}) == Send(1)
    assert chosen({"a1": limited(400)}) == Refuse(400, down=False)


def test_it_keeps_to_where_it_was() -> None:
    assert chosen({"a1": FREE, "a2": BUSY}, stay="a2") == Send(1)
    assert chosen({"a1": FREE, "b1": BUSY}, stay="b1") == Send(1)
    assert chosen({"a1": FREE, "a2": blocked(1)}, stay="a2") == Send(0)
    assert chosen({"a1": FREE, "a2": limited(11)}, stay="a2") == Send(0)


standings = st.builds(
    Standing,
    blocked_s=st.just(0.0) | st.floats(0, 400),
    limited_s=st.just(0.0) | st.floats(0, 400),
    load=st.tuples(st.integers(0, 3), st.floats(0, 9)),
    down=st.booleans(),
)
groups = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4)


@given(st.data())
def test_in_every_state(data) -> None:
    counts = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    lanes = [lane(f"{g}{key}") for g, count in enumerate(counts) for key in range(count)]
    states = data.draw(st.lists(standings, min_size=len(lanes), max_size=len(lanes)))
    stay = data.draw(st.none() | st.sampled_from([each.id for each in lanes]))
    remaining = data.draw(st.floats(0.1, REMAINING_S))
    choice = choose(lanes, states, patience_s=PATIENCE_S, remaining_s=remaining, stay=stay)
    ready = [n for n, s in enumerate(states) if s.blocked_s <= 0 and s.limited_s <= PATIENCE_S]
    soonest = min(max(s.blocked_s, s.limited_s) for s in states)
    match choice:
        case Send(place=place):
            state = states[place]
            assert state.blocked_s <= 0
            if ready:
                assert place in ready
                if lanes[place].id != stay:
                    assert lanes[place].group == lanes[ready[0]].group
                    same = [states[n] for n in ready if lanes[n].group == lanes[place].group]
                    assert min((s.limited_s, s.load) for s in same) == (
                        state.limited_s,
                        state.load,
                    )
            else:
                assert state.limited_s == soonest < remaining
        case Wait(delay_s=delay):
            assert not ready
            assert 0 < delay <= PATIENCE_S
            assert delay < remaining
        case Refuse(retry_after_s=wait):
            assert not ready
            assert wait == soonest
            assert wait > PATIENCE_S or wait >= remaining
    if stay is not None and stay in {lanes[n].id for n in ready}:
        assert choice == Send(next(n for n, each in enumerate(lanes) if each.id == stay))
