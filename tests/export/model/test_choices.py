"""What a spec may choose of a model."""

import types

from maskport.export.model.choices import choose_signatures
from maskport.export.spec import make_spec


def test_signatures_of_jpeg_are_made_where_they_are_asked_for():
    model = types.SimpleNamespace(answers_classes=False, output_channels=1, takes_bands=False)

    def chosen(**fields):
        return choose_signatures(make_spec({"source": "a.keras", "output_dir": "served", **fields}), model)

    jpegs = {"masked_image_jpeg", "masked_image_jpeg_at_threshold"}
    assert not jpegs & set(chosen())
    assert {*chosen(), *jpegs} == set(chosen(signatures="all"))
    assert chosen(signatures="masked_image_jpeg") == ["masked_image_jpeg"]
    assert chosen(signatures="all", background="transparent") == chosen()
