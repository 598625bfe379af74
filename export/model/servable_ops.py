"""Which ops an exported graph may hold: those of a stock TensorFlow Serving that leave its host alone."""

from collections.abc import Iterator

from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.python.framework import op_def_registry

from ..errors import UnservableError

_HOST_OPS = frozenset(
    {
        # Python and host code
        "PyFunc", "PyFuncStateless", "EagerPyFunc", "XlaHostCompute", "HostConst",
        # files: reading, writing, listing (variables of a SavedModel are restored by the loader, see below)
        "ReadFile", "WriteFile", "MatchingFiles", "SaveV2", "SaveSlices", "Save", "RestoreSlice", "Restore",
        "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ShardedFilespec", "ReaderReadV2", "ReaderRead",
        "WholeFileReader", "WholeFileReaderV2", "TextLineReader", "TextLineReaderV2", "TFRecordReader",
        "TFRecordReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "IdentityReader",
        "IdentityReaderV2", "LMDBReader", "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2",
        "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "ExperimentalCSVDataset", "CSVDataset",
        "CSVDatasetV2", "LMDBDataset", "ExperimentalLMDBDataset", "SqlDataset", "ExperimentalSqlDataset",
        "MatchingFilesDataset", "ExperimentalMatchingFilesDataset", "CacheDataset", "CacheDatasetV2",
        "SnapshotDataset", "SnapshotDatasetV2", "SaveDataset", "SaveDatasetV2", "LoadDataset",
        "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "DistributedSave", "InitializeTableFromTextFile",
        "InitializeTableFromTextFileV2", "ListSnapshotChunksDataset", "SnapshotChunkDataset", "LoadAndRemapMatrix",
        "GenerateVocabRemapping",
        # printing and summaries
        "Print", "PrintV2", "LogMatrix", "WriteSummary", "WriteScalarSummary", "WriteImageSummary",
        "WriteAudioSummary", "WriteHistogramSummary", "WriteGraphSummary", "WriteRawProtoSummary",
        "CreateSummaryFileWriter", "CreateSummaryDbWriter", "ImportEvent", "SummaryWriter", "FlushSummaryWriter",
        "CloseSummaryWriter",
        # debugging
        "DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugGradientIdentity", "DebugGradientRefIdentity",
        "DebugNanCount", "DebugNumericSummary", "DebugNumericSummaryV2", "Abort",
        # other processes
        "_Send", "_Recv", "Send", "Recv", "_HostSend", "_HostRecv", "CollectiveReduce", "CollectiveReduceV2",
        "CollectiveGather", "CollectiveBcastSend", "CollectiveBcastRecv", "RpcCall", "RpcClient", "RpcServer",
        "RpcServerStart", "RegisterDataset", "RegisterDatasetV2", "DataServiceDataset", "DataServiceDatasetV2",
        "DataServiceDatasetV3", "DataServiceDatasetV4", "RemoteCall", "BigQueryReader", "GetSessionHandle",
    }
)  # fmt: skip

_LOADER_OPS = frozenset(
    {"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "InitializeTableFromTextFileV2"}
)
"""What a SavedModel's own saver is made of: allowed in it, and nowhere else."""


def check_servable(graph: graph_pb2.GraphDef, allowed: list[str]) -> None:
    """Makes sure that a stock server can run a graph, and that it leaves the host alone, but for `allowed` ops.

    Raises:
        UnservableError: names each offending op and where it comes from.
    """
    functions = {function.signature.name for function in graph.library.function}
    offenders: dict[str, tuple[str, str]] = {}
    for node, place in _nodes(graph):
        if node.op in allowed or node.op in offenders or node.op in functions:
            continue
        if op_def_registry.get(node.op) is None:
            offenders[node.op] = ("is no core TensorFlow op", place)
        elif node.op in _HOST_OPS and not _belongs_to_loader(node, place):
            offenders[node.op] = ("touches the server's host", place)
    if offenders:
        texts = [f"{op} ({why}; in {place})" for op, (why, place) in sorted(offenders.items())]
        raise UnservableError(
            f"the graph holds ops that TensorFlow Serving cannot or must not run: {', '.join(texts)}; "
            f"if you are sure: --allow_ops={','.join(sorted(offenders))}"
        )


def _nodes(graph: graph_pb2.GraphDef) -> Iterator[tuple[node_def_pb2.NodeDef, str]]:
    for node in graph.node:
        yield node, f"node {node.name}"
    for function in graph.library.function:
        for node in function.node_def:
            yield node, f"function {function.signature.name}, node {node.name}"


def _belongs_to_loader(node: node_def_pb2.NodeDef, place: str) -> bool:
    is_saver = "function __inference__traced_save" in place or "function __inference__traced_restore" in place
    return node.op in _LOADER_OPS and is_saver
