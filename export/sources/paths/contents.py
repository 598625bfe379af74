"""What the first bytes of a file say, of whatever kind it should be."""

from ...errors import SourceError

HEAD_BYTES = 32
"""What `check_content` needs of a file."""
_LFS = b"version https://git-lfs"


def check_content(head: bytes, where: str) -> None:
    """SourceError where a file, of which these are the first bytes, is empty or stands for another."""
    if not head:
        raise SourceError(f"{where}: it is empty")
    if head.startswith(_LFS):
        raise SourceError(f"{where}: it is a pointer of Git LFS, not the model itself; fetch that by git lfs pull")
