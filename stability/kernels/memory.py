"""How many bytes of intermediates torch holds, storage by storage: deterministic.

Views of one storage count once; the storages of ``known`` tensors (parameters, data) don't count.
"""

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Tally:
    """Bytes of storages while anything holds them; ``peak``: the most at once."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._holders: dict[int, int] = {}
        self.bytes = self.peak = 0

    def hold(self, tensor: Tensor, holder: object) -> None:
        """Count the storage of ``tensor`` until ``holder`` is gone."""
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known:
            return
        self._holders[address] = self._holders.get(address, 0) + 1
        self.bytes += size if self._holders[address] == 1 else 0
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(holder, self._release, address, size).atexit = False

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        self.bytes -= size if self._holders[address] == 0 else 0


class _Saved:
    """What autograd holds in the place of one tensor."""

    def __init__(self, tensor: Tensor) -> None:
        # Detached: an output that its own node keeps would hold itself alive.
        self.tensor = tensor.detach()


class Kept(saved_tensors_hooks):
    """Within this context, counts the bytes that autograd keeps for the backward pass.

    What the backward pass has used up no longer counts; ``peak`` holds the most kept at once.
    For first derivatives: what is kept is detached.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__(self._pack, lambda saved: saved.tensor)
        self._tally = _Tally(known)

    @property
    def bytes(self) -> int:
        """Kept now."""
        return self._tally.bytes

    @property
    def peak(self) -> int:
        """The most kept so far."""
        return self._tally.peak

    def _pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        self._tally.hold(tensor, saved)
        return saved


class Live(TorchDispatchMode):
    """Within this context, counts the bytes of all tensors that are made, until they are gone."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tally = _Tally(known)

    @property
    def peak(self) -> int:
        """The most that lived at once so far."""
        return self._tally.peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it makes."""
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self._tally.hold(leaf, leaf.untyped_storage())
        return made
