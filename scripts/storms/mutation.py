"""Changes in bytes whose form nothing is known of."""

import random


def mutated(chance: random.Random, data: bytes) -> bytes:
    """Returns bytes with a few of them changed, left out, doubled, or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            changed[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            changed[at : at + 1] = bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFF))])
        elif kind == 2:
            del changed[at : at + chance.choice((1, 2, 8, 100))]
        elif kind == 3:
            part = changed[at : at + chance.choice((1, 4, 64))]
            changed[at:at] = part * chance.choice((1, 3))
        elif kind == 4:
            changed[at:at] = chance.randbytes(chance.choice((1, 4, 40)))
        elif chance.random() < 0.3:
            del changed[at:]
    return bytes(changed)
