"""Seeded faults: each is found, over both transports, and what is behind it is said. The true model passes."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from maskport.export import export_model
from maskport.export.exporter import Plan
from maskport.export.spec import make_spec
from maskport.serving.client import MaskClient, ModelState
from maskport.serving.server.fronts.grpc_front import GrpcSettings
from maskport.serving.server.fronts.http_server import Limits
from maskport.serving.server.models.loading import LoadSettings
from maskport.serving.server.models.repository import RepositorySettings
from maskport.serving.server.models.text_configs import BatchingSettings
from maskport.serving.server.server import ServerSettings
from maskport.serving.verify import VerifyOptions, read_export, read_golden, verify
from tensorflow.core.protobuf import saved_model_pb2
from toy_models import moving_model
from waiting import wait_until


def settings(**fields):
    return ServerSettings(grpc_port=-1, rest_port=-1, drain_timeout_s=1, **fields)


def wrong_signatures(report):
    return {one.signature for one in report.signatures if not one.holds}


def causes(report):
    return "\n".join(report.causes)


def addresses(server):
    return [server.grpc_address, server.rest_address]


def wait_for_state(server, version, state):
    with MaskClient(server.grpc_address, "toy") as client:
        wait_until(
            lambda: any(one.version == version and one.state == state for one in client.status()),
            lambda: f"{state} of version {version} in {client.status()}",
        )


def test_the_true_model_passes(serve, publish, check, true_export):
    for report in check(serve(publish(v1=true_export)), true_export):
        assert report.holds, report.all_problems()
        assert report.version == 1
        assert report.causes == report.notes == ()
        by_name = {one.signature: one for one in report.signatures}
        assert set(by_name) == {"serving_default", "mask", "mask_png", "probability", "probability_png", "export_info"}
        for one in by_name.values():
            assert one.latency_ms > 0
            assert one.request_bytes > 20
            assert one.response_bytes > 20
        # pixels: 2 pictures of 64 x 80 x 3 bytes go in, as many floats come out; in JSON they are larger
        assert by_name["mask"].request_bytes >= 2 * 64 * 80 * 3
        assert by_name["mask_png"].response_bytes < by_name["mask"].response_bytes / 5
        (mask,) = by_name["mask"].outputs
        assert mask.overlap >= 0.999


def test_what_rest_has_no_numbers_for_is_left_out_there(serve, publish, check, export):
    deep = export(image_dtype="uint16")
    server = serve(publish(v1=deep))
    over_grpc, over_rest = check(server, deep)
    for report in (over_grpc, over_rest):
        assert report.holds, report.all_problems()
    pixels = {"serving_default", "mask", "probability"}
    assert {one.signature for one in over_rest.signatures if one.left_out} == pixels
    assert over_rest.notes == ("left out, not callable over REST (uint16): serving_default, mask, probability",)
    assert not any(one.left_out for one in over_grpc.signatures)

    over_grpc, over_rest = check(server, deep, signatures=("mask",))
    assert over_grpc.holds
    assert not over_rest.holds
    assert over_rest.problems == ("no signature to check is callable over REST (uint16): check it over gRPC",)
    assert over_rest.causes == ()


def test_the_recorded_masks_can_tell_models_apart(true_export):
    records = {record.signature: record for record in read_export(true_export).records}
    share = records["mask"].outputs["mask"].mean()
    assert 0.05 < share < 0.95


def test_the_true_model_under_batching_passes(serve, publish, check, true_export):
    batching = BatchingSettings(max_batch_size=16, timeout_s=0.02)
    server = serve(publish(v1=true_export), settings(load=LoadSettings(batching=batching)))
    for report in check(server, true_export):
        assert report.holds, report.all_problems()


def test_another_model_is_found(serve, publish, check, export, true_export):
    for report in check(serve(publish(v1=export(seed=2))), true_export):
        assert wrong_signatures(report) == {one.signature for one in report.signatures}
        assert "another model is served: source.sha256 is" in causes(report)


def test_another_threshold_is_found(serve, publish, check, export, true_export):
    for report in check(serve(publish(v1=export(threshold=0.7))), true_export):
        assert wrong_signatures(report) == {"serving_default", "mask", "mask_png", "export_info"}
        assert "another export of this model is served: spec.threshold is 0.7, exported with 0.5" in causes(report)


def test_swapped_channels_are_found(serve, publish, check, export, true_export):
    for report in check(serve(publish(v1=export(channel_order="bgr"))), true_export):
        assert {"mask", "mask_png", "probability", "probability_png"} <= wrong_signatures(report)
        assert "spec.channel_order is 'bgr', exported with 'rgb'" in causes(report)


def test_another_scaling_is_found(serve, publish, check, export, true_export):
    for report in check(serve(publish(v1=export(scaling="signed"))), true_export):
        assert {"mask", "probability"} <= wrong_signatures(report)
        assert "spec.scaling is 'signed', exported with 'unit'" in causes(report)


def test_a_missing_signature_is_found(serve, publish, check, export, true_export):
    fewer = export(signatures=("serving_default", "mask", "probability", "probability_png", "export_info"))
    for report in check(serve(publish(v1=fewer)), true_export):
        assert wrong_signatures(report) == {"mask_png", "export_info"}
        assert any(
            "'mask_png': metadata: the served model has no such signature" in one for one in report.all_problems()
        )


def test_a_signature_too_many_is_found(serve, publish, check, export, true_export):
    fewer = export(signatures=("serving_default", "mask", "probability", "probability_png", "export_info"))
    for report in check(serve(publish(v1=true_export)), fewer):
        assert any("signatures are served that were not exported: mask_png" in one for one in report.problems)


def test_an_older_version_is_found(serve, publish, check, export, true_export):
    base_path = publish(v1=export(seed=2), v2=true_export)
    server = serve(base_path / "1")
    for report in check(server, base_path / "2"):
        assert not report.holds
        assert "the wrong version is served: version 1 answers, and" in causes(report)
        assert "another model is served" in causes(report)


def test_a_version_that_is_not_there_is_found(serve, publish, check, true_export):
    for report in check(serve(publish(v1=true_export)), true_export, version=7):
        assert not report.holds
        assert "version 7 is not served; available: version 1" in causes(report)


def test_a_truncated_variable_file_is_found(serve, publish, check, export, true_export, tmp_path):
    server = serve(publish(v1=export(seed=2)))
    damaged = tmp_path / "damaged"
    shutil.copytree(true_export, damaged)
    data = damaged / "variables/variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    base_path = publish(v2=damaged)
    wait_for_state(server, 2, ModelState.END)
    for report in check(server, base_path / "2"):
        assert report.version == 1
        assert "version 2 did not load: its files are damaged or incomplete, so publish it again:" in causes(report)
        assert "the wrong version is served: version 1 answers" in causes(report)


def test_other_weights_behind_the_same_manifest_are_found(serve, publish, check, export, true_export, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(true_export, changed)
    shutil.rmtree(changed / "variables")
    shutil.copytree(export(seed=2) / "variables", changed / "variables")
    for report in check(serve(publish(v1=changed)), true_export):
        assert wrong_signatures(report) == {"serving_default", "mask", "mask_png", "probability", "probability_png"}
        assert "its files (variables/) were changed after the export" in causes(report)


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A version of a model whose answers move by nature, its tolerance, and what makes one with shifted answers."""
    fields = {"scaling": "unit", "signatures": ["mask", "mask_png", "probability", "export_info"], "warmup": False}
    folder = tmp_path_factory.mktemp("moving")
    true = export_model(moving_model(), folder / "toy", **fields)
    tolerance = json.loads((true / "assets.extra/maskport.json").read_text())["reproducibility"]["tolerance"]

    def shifted(shift):
        """The same files, but for what one of the model's weights is."""
        model = folder / f"{shift}.keras"
        moving_model(shift).save(model)
        other = folder / f"{shift}"
        other.mkdir()
        Plan.make(make_spec({"source": str(model), "output_dir": str(folder), **fields})).write(other)
        changed = folder / f"toy {shift}"
        shutil.copytree(true, changed)
        shutil.rmtree(changed / "variables")
        shutil.copytree(other / "variables", changed / "variables")
        return changed

    return true, tolerance, shifted


def test_a_model_whose_answers_move_by_nature_passes_and_is_named(serve, publish, check, moving):
    true, tolerance, _ = moving
    for report in check(serve(publish(v1=true)), true):
        assert report.holds, report.all_problems()
        assert any(f"probabilities may differ by {tolerance:.2g}, " in note for note in report.notes)


def test_a_fault_just_above_what_the_answers_move_by_nature_is_found(serve, publish, check, moving):
    true, tolerance, shifted = moving
    for report in check(serve(publish(v1=shifted(1.2 * tolerance))), true):
        assert {"probability"} <= wrong_signatures(report) <= {"probability", "mask", "mask_png"}
        assert "its files (variables/) were changed after the export" in causes(report)


def test_what_is_below_it_cannot_be_told_from_it(serve, publish, check, moving):
    true, tolerance, shifted = moving
    for report in check(serve(publish(v1=shifted(-0.8 * tolerance))), true):
        assert report.holds, report.all_problems()


def test_a_model_that_is_still_loading_is_found(serve, publish, check, export, true_export, tmp_path):
    server = serve(
        publish(v1=true_export),
        settings(repository=RepositorySettings(max_load_retries=100, retry_interval_s=60)),
    )
    broken = tmp_path / "broken"
    shutil.copytree(true_export, broken)
    (broken / "saved_model.pb").write_bytes(b"no model")
    publish(v2=broken)
    wait_for_state(server, 2, ModelState.LOADING)
    for report in check(server, true_export, version=2):
        assert not report.holds
        assert "the model is still loading (version 2): try again, or let --wait=SECONDS wait for it" in causes(report)


def test_an_older_tensorflow_is_found(serve, publish, check, export, true_export, tmp_path):
    server = serve(publish(v1=export(seed=2)))
    newer = tmp_path / "newer"
    shutil.copytree(true_export, newer)
    model = saved_model_pb2.SavedModel.FromString((newer / "saved_model.pb").read_bytes())
    renamed = 0
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "Conv2D":
                node.op, renamed = "Conv2DOfNextYear", renamed + 1
    assert renamed
    (newer / "saved_model.pb").write_bytes(model.SerializeToString())
    base_path = publish(v2=newer)
    wait_for_state(server, 2, ModelState.END)
    for report in check(server, base_path / "2"):
        assert (
            "version 2 did not load: the server's TensorFlow is older than the model needs (it was exported"
            in causes(report)
        )
        assert "Conv2DOfNextYear" in causes(report)


def test_batching_that_refuses_the_signature_is_found(serve, publish, check, true_export):
    batching = BatchingSettings(max_batch_size=2, timeout_s=0.0001)
    server = serve(publish(v1=true_export), settings(load=LoadSettings(batching=batching)))
    for report in check(server, true_export):
        # Three files go in: two pictures, and one that is none.
        assert {"mask_png", "probability_png"} <= wrong_signatures(report)
        assert "raise max_batch_size in the batching parameters" in causes(report)


def test_batching_that_merges_sizes_is_found(serve, publish, check, true_export):
    batching = BatchingSettings(max_batch_size=16, timeout_s=0.2)
    server = serve(publish(v1=true_export), settings(load=LoadSettings(batching=batching)))
    stranger = {"image": np.zeros((1, 20, 30, 3), np.uint8)}
    with MaskClient(server.grpc_address, "toy") as client, ThreadPoolExecutor(1) as threads:
        client.metadata()

        def disturb():
            # A caller with pictures of another size, as long as the check runs.
            while not done:
                try:
                    client.predict("mask", stranger)
                except Exception as error:
                    refused.append(error)

        done, refused = [], []
        running = threads.submit(disturb)
        try:
            reports = check(server, true_export, signatures=("mask",), repeats=10)
        finally:
            done.append(True)
        running.result()
    for report in reports:
        assert not report.holds
        assert "the server's batching merges pictures of other sizes" in causes(report)


def test_a_small_message_limit_is_found(serve, publish, check, true_export):
    server = serve(
        publish(v1=true_export),
        settings(
            grpc=GrpcSettings(threads=4, channel_arguments=(("grpc.max_receive_message_length", 1 << 20),)),
            limits=Limits(body_bytes=1 << 20),
        ),
    )
    for report in check(server, true_export):
        assert not report.holds
        assert wrong_signatures(report) == set()
        assert "refuses messages of this size: raise its limit" in causes(report)
    assert all(report.holds for report in check(server, true_export, message_mib=0.5))
    assert all(report.holds for report in check(server, true_export, message_mib=0))


def test_a_server_with_few_threads_passes_with_a_note(serve, publish, true_export):
    server = serve(publish(v1=true_export), settings(grpc=GrpcSettings(threads=3, refuses=True)))
    options = VerifyOptions(repeats=1, concurrency=24)
    (report,) = verify([server.grpc_address], "toy", read_export(true_export), options).addresses
    assert report.holds, report.all_problems()
    (note,) = report.notes
    assert "all of its gRPC threads were busy: raise --grpc_max_threads" in note


def test_another_name_is_found(serve, publish, true_export):
    server = serve(publish(v1=true_export))
    reports = verify(addresses(server), "toys", read_export(true_export)).addresses
    for report in reports:
        assert not report.holds
        assert "the server serves no model of this name" in causes(report)


def test_a_server_that_is_not_there_is_found(serve, publish, true_export):
    server = serve(publish(v1=true_export))
    both = addresses(server)
    server.__exit__(None, None, None)
    started = time.monotonic()
    for report in verify(both, "toy", read_export(true_export)).addresses:
        assert not report.holds
        assert "nothing answers at this address" in causes(report)
    assert time.monotonic() - started < 60


def test_the_other_transports_port_is_found(serve, publish, true_export):
    server = serve(publish(v1=true_export))
    swapped = [server.rest_address.replace("http://", "grpc://"), server.grpc_address.replace("grpc://", "http://")]
    report = verify(swapped, "toy", read_export(true_export), VerifyOptions(repeats=1))
    assert not report.holds
    for one in report.addresses:
        assert one.problems
        assert not one.signatures


def test_golden_requests_alone_find_another_model(serve, publish, export, true_export):
    server = serve(publish(v1=export(seed=2), v2=true_export))
    true = read_golden(true_export / "assets.extra/golden")
    other = read_golden(export(seed=2) / "assets.extra/golden")
    assert verify(addresses(server), "toy", true).holds
    for report in verify(addresses(server), "toy", other).addresses:
        assert not report.holds
        assert "another model is served" in causes(report)


def test_waiting_ends_when_the_model_is_there(serve, publish, check, export, true_export):
    server = serve(publish(v1=export(seed=2)))
    publish(v2=true_export)
    for report in check(server, true_export, version=2, wait_s=30):
        assert report.holds, report.all_problems()
