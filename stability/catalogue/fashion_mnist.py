"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv 1708.07747): downloaded once, then cached."""

from pathlib import Path

from stability.catalogue.idx import Images, read_folder
from stability.errors import InputError

ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""As its authors publish it, on a website without https: the sums are what is trusted."""
SHA256 = {
    "train-images-idx3-ubyte.gz":
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz":
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz":
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz":
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}  # fmt: skip
"""Those of TensorFlow Datasets 4 (url_checksums/fashion_mnist.txt)."""
SAMPLES, PIXELS = 70_000, 784


def fetch(
    address: str = ADDRESS, sums: dict[str, str] = SHA256, cache: Path | None = None
) -> Images:
    """The images, from ``cache`` (by default the user's cache folder) or else from ``address``.

    Every file, cached or not, must have its sum; a cached one that hasn't is downloaded again, and
    one that hasn't after that is not kept.  Raises InputError if a download fails.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    folder = cache or Path(pooch.os_cache("stability")) / "fashion_mnist"
    registry = {name: f"sha256:{digest}" for name, digest in sums.items()}
    store = pooch.create(path=folder, base_url=address, registry=registry)
    for name in registry:
        try:
            store.fetch(name)
        except ValueError:
            raise InputError(
                f"experiment.data=fashion_mnist: {address}{name}: the file there is not the one "
                "known (its sha256 differs), so it wasn't kept"
            ) from None
        except OSError as error:
            raise InputError(
                f"experiment.data=fashion_mnist: {address}{name}: can't be downloaded to {folder}: "
                f"{_cause(error)}; or give its four files as experiment.data=idx "
                "experiment.folder=PATH"
            ) from None
    return read_folder(folder)


def _cause(error: object) -> str:
    """What happened, on one line: the innermost of the errors that requests wraps in each other."""
    if isinstance(error, BaseException) and not getattr(error, "strerror", None) and error.args:
        return _cause(getattr(error, "reason", None) or error.args[0])
    return " ".join(str(getattr(error, "strerror", error)).split())
