"""What pending mutations make of entries, found the plain way: by running all of them. What `Predictions` is compared with."""

import copy

import attrs

from syncd.client.local_tx import LocalRejected, LocalTx
from syncd.client.values import NOTHING


def scratch_fold(predictions):
    """Return the predicted value and the mutations that make it, by entry."""
    overlay = {}
    for pending in predictions.pending.values():
        confirmed = predictions._held(pending)
        writes = pending.writes
        if not confirmed or confirmed != pending.touched:
            writes, touched = _run(predictions, pending, overlay, confirmed)
            confirmed = predictions._held(attrs.evolve(pending, touched=touched))
        for place, value in writes.items():
            if place not in confirmed:
                overlay[place] = value, (*overlay.get(place, (None, ()))[1], pending.id)
    return overlay


def _run(predictions, pending, overlay, confirmed):
    run, _ = predictions.find_mutator(pending.name)
    if run is None:
        return {}, set()

    def read(place):
        if place in confirmed and place in pending.found:
            return pending.found[place]
        if place not in overlay:
            return predictions._confirmed(place)
        value = overlay[place][0]
        return value, 0 if value is NOTHING else None, True

    tx = LocalTx(
        pending.name.rpartition(".")[0] or None, read, reason="rebase", now_ms=pending.now_ms
    )
    try:
        run(tx, **copy.deepcopy(pending.args))
    except (LocalRejected, RuntimeError, TypeError):
        return (pending.writes, pending.touched) if confirmed else ({}, tx.touched)
    return tx.writes, tx.touched
