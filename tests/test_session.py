"""One session in several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Thread

import numpy as np
import pytest

from autodiff import graph as G


def test_blocks_of_one_session_in_two_threads() -> None:
    """One of them leaves while the other is inside; nothing of that is seen outside."""
    session, outside = G.Session(G.Graph()), G.default_graph()
    both = Barrier(2, timeout=10)

    def block(first: bool) -> bool:
        both.wait()
        with session:
            both.wait()
            if first:
                both.wait()
            inside = G.default_graph() is session.graph
        if not first:
            both.wait()
        return inside and G.default_graph() is not session.graph

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(block, (True, False)))
    assert G.default_graph() is outside


def test_a_block_inside_of_itself() -> None:
    session, outside = G.Session(G.Graph()), G.default_graph()
    with session, G.Graph().as_default() as between, session:
        assert G.default_graph() is session.graph is not between
    assert G.default_graph() is outside


def test_runs_of_one_session_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that comes while another is updating variables sees them when that is done."""
    with G.Graph().as_default() as graph:
        w, v = G.Variable(np.zeros(3), name="w"), G.Variable(np.zeros(3), name="v")
        step = [w.assign_add(1.0), v.assign_add(1.0)]
        session = G.Session()
    session.run(graph.initializer())
    session.run((w, v))
    begun, go_on = Event(), Event()
    runner = session.runner(step)
    whole = runner.compiled

    def halted(values: list) -> list:
        results = whole(values)
        results[1] -= 1
        begun.set()
        go_on.wait(10)
        results[1] += 1
        return results

    monkeypatch.setattr(runner, "compiled", halted)
    seen: list = []
    writer = Thread(target=lambda: session.run(step))
    reader = Thread(target=lambda: seen.extend(session.run((w, v))))
    writer.start()
    assert begun.wait(10)
    reader.start()
    reader.join(0.1)
    go_on.set()
    writer.join(10), reader.join(10)
    assert [x.tolist() for x in seen] == [[1, 1, 1]] * 2
