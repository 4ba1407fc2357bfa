"""The rebuild-coordinator: jobs that read a collection's source anew."""

from syncd.actors.rebuild_coordinator.actor import RebuildCoordinator

__all__ = ["RebuildCoordinator"]
