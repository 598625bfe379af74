"""What the first bytes of a file say, of whatever kind it should be."""

from ..errors import SourceError

_LFS = b"version https://git-lfs"


def check_content(head: bytes, where: str) -> None:
    """SourceError where a file, of which these are the first bytes, 32 or more, is empty or stands for another."""
    if not head:
        raise SourceError(f"{where}: it is empty")
    if head.startswith(_LFS):
        raise SourceError(f"{where}: it is a pointer of Git LFS, not the model itself; fetch that by git lfs pull")
