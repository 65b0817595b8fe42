"""The twins by their source: same files, same public names, same argument names; and a few rules of the house.

Nothing is imported: what is read is the syntax tree, so this test needs neither framework.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TF, TORCH = "tfrs_models", "torch_reference"
VERBS = ("train", "evaluate", "embed", "build_index", "recommend", "export", "publish", "serve")
MAX_VERB_LINES = 60

FILES_OF_ONE_STACK: Mapping[str, str] = {
    "tfrs_models/grpc_server.py": "gRPC messages of TF Serving are TensorFlow's; the other server speaks REST alone",
    "tfrs_models/indexes/scann_index.py": "ScaNN is a TensorFlow library",
    "tfrs_models/indexes/scann_structure.py": "ScaNN is a TensorFlow library",
    **dict.fromkeys(
        (
            "tfrs_models/indexes/each_query.py",
            "tfrs_models/indexes/kept_vectors.py",
            "tfrs_models/indexes/partition_blocks.py",
            "tfrs_models/indexes/partition_scan.py",
            "tfrs_models/indexes/partitioned_index.py",
            "tfrs_models/indexes/partitioned_search.py",
            "tfrs_models/indexes/partitions.py",
            "tfrs_models/indexes/principal_axes.py",
            "tfrs_models/indexes/products.py",
        ),
        "search in plain TensorFlow operations, which an export needs where FAISS is not; PyTorch has FAISS",
    ),
    "torch_reference/indexes/faiss_index.py": "FAISS stands in for it in the PyTorch stack",
    "torch_reference/indexes/faiss_factories.py": "FAISS stands in for it in the PyTorch stack",
    "torch_reference/indexes/faiss_structure.py": "FAISS stands in for it in the PyTorch stack",
}
FOLDERS_OF_ONE_STACK: Mapping[str, str] = {
    "tfrs_models/preprocessing/": "features are encoded in the graph of an exported TensorFlow model, and nowhere else",
    "tfrs_models/saved_model/": "a SavedModel: preprocessing, towers and search in one graph",
    "torch_reference/exported_program/": "programs of torch.export, which hold no text and no search",
}
SEEDS = "dropout: TensorFlow folds a seed, PyTorch draws from a Generator; each framework's reproducible way"
SUMS = "a sparse gradient's duplicates: TensorFlow has no coalesce, PyTorch has; the norm is taken after it in both"
TRANSPOSE = "PyTorch keeps kernels transposed, so slots and gradients need the table; Keras keeps the canonical layout"
PLACES = (
    "PyTorch tensors are put on a device by argument, TensorFlow's by context; row numbers stay what they are there"
)
TYPED = "a type of its own; in TensorFlow a batch is a nest as tf.nest knows it"
REPLICAS = "TensorFlow runs a step inside its strategy; PyTorch's collectives are called where they stand"
TAPE = "TensorFlow's gradients are returned by a tape, PyTorch's are left in .grad, so a step is cut in other places"
BUNDLE = "Keras calls a task with tensors; PyTorch's is given its rows as one bundle, which can be cut into blocks"
AVERAGE = "a graph's variables are made from the configuration and set later; PyTorch copies the towers as they are"
STATISTICS = "TensorFlow's step hands a batch norm's statistics out of its graph, PyTorch's layer keeps them until told"
SPARSE = "a look-up: TensorFlow gathers from a variable, PyTorch has a module whose gradient is sparse"
NAMES_OF_ONE_STACK: Mapping[str, str] = {
    "tfrs_models/inputs.py:any_length": "signatures of tf.function, so that a step is traced once",
    **dict.fromkeys(
        (
            "torch_reference/inputs.py:BatchTensors",
            "torch_reference/inputs.py:FeatureTensors",
            "torch_reference/inputs.py:ImpressionTensors",
            "torch_reference/inputs.py:KnownPositiveTensors",
            "torch_reference/inputs.py:SampledTensors",
        ),
        TYPED,
    ),
    "tfrs_models/layers/dropout.py:dropout": SEEDS,
    "tfrs_models/layers/dropout.py:fold_in": SEEDS,
    "torch_reference/layers/dropout.py:SeededDropout": SEEDS,
    "torch_reference/layers/dropout.py:SeededDropout.__init__": SEEDS,
    "torch_reference/layers/dropout.py:BulkDropout": SEEDS,
    "torch_reference/layers/dropout.py:BulkDropout.__init__": SEEDS,
    "torch_reference/layers/dropout.py:BulkDropout.kept": SEEDS,
    "tfrs_models/layers/norm.py:BatchNorm.follow": STATISTICS,
    "tfrs_models/layers/norm.py:Moments": STATISTICS,
    "torch_reference/layers/norm.py:BatchNorm.commit": STATISTICS,
    "torch_reference/towers/two_tower.py:TwoTower.batch_norms": STATISTICS,
    "tfrs_models/layers/pooling.py:rows_of": SPARSE,
    "torch_reference/layers/history.py:embedding_table": SPARSE,
    "torch_reference/callables.py:CHUNK_NUMBERS": "TensorFlow bounds places of lists instead, in a name of its own",
    "tfrs_models/negatives/replicas.py:any_replica": REPLICAS,
    "tfrs_models/negatives/replicas.py:run": REPLICAS,
    "tfrs_models/negatives/replicas.py:strategy": REPLICAS,
    "tfrs_models/training/clipping.py:over_replicas": REPLICAS,
    "torch_reference/training/trainer.py:own_rows": REPLICAS,
    "torch_reference/negatives/columns.py:Columns.part": BUNDLE,
    "torch_reference/tasks/retrieval.py:QueryRows": BUNDLE,
    "torch_reference/tasks/retrieval.py:QueryRows.block": BUNDLE,
    "tfrs_models/training/cached_gradient.py:encode_in_chunks": TAPE,
    "tfrs_models/training/cached_gradient.py:gradient_in_blocks": TAPE,
    "tfrs_models/training/cached_gradient.py:pull_back": TAPE,
    "tfrs_models/training/model.py:RetrievalModel.loss_and_gradients": TAPE,
    "tfrs_models/training/model.py:Step": TAPE,
    "torch_reference/training/cached_gradient.py:Draws": TAPE,
    "torch_reference/training/cached_gradient.py:backward": TAPE,
    "torch_reference/training/cached_gradient.py:no_draws": TAPE,
    "torch_reference/training/model.py:Encoded": TAPE,
    "torch_reference/training/model.py:RetrievalModel.candidate_features": TAPE,
    "torch_reference/training/model.py:RetrievalModel.encode": TAPE,
    "torch_reference/training/model.py:RetrievalModel.loss_of": TAPE,
    "torch_reference/training/model.py:RetrievalModel.score": TAPE,
    "torch_reference/training/model.py:Scored": TAPE,
    "torch_reference/training/model.py:total_weight": TAPE,
    "tfrs_models/weights.py:tower_variables": AVERAGE,
    "tfrs_models/training/clipping.py:Gradient": SUMS,
    "tfrs_models/training/clipping.py:add_up": SUMS,
    "tfrs_models/training/clipping.py:scaled": SUMS,
    "tfrs_models/training/clipping.py:sum_duplicates": SUMS,
    "torch_reference/training/clipping.py:global_norm": SUMS,
    "tfrs_models/weights.py:read": TRANSPOSE,
    "tfrs_models/weights.py:write": TRANSPOSE,
    "torch_reference/weights.py:Place": TRANSPOSE,
    "torch_reference/weights.py:Slots": TRANSPOSE,
    "torch_reference/weights.py:name_table": TRANSPOSE,
    "torch_reference/weights.py:assign_slots": TRANSPOSE,
    "torch_reference/weights.py:extract_slots": TRANSPOSE,
    "torch_reference/weights.py:assign_bank": TRANSPOSE,
    "torch_reference/weights.py:extract_bank": TRANSPOSE,
    "torch_reference/weights.py:extract_gradients": TRANSPOSE,
}
"""`stack/file:name` or `stack/file:Class.method` that the twin lacks, and why."""
ARGUMENTS_THAT_DIFFER: Mapping[str, str] = {
    "negatives/bank.py:NegativeBank.__init__": PLACES,
    "inputs.py:batch_tensors": PLACES,
    "inputs.py:feature_tensors": PLACES,
    "layers/features.py:FeatureCombiner.places": SEEDS,
    "layers/gru.py:GruPooling.places": SEEDS,
    "layers/history.py:HistoryEncoder.places": SEEDS,
    "layers/transformer.py:TransformerPooling.places": SEEDS,
    "towers/mlp_tower.py:MlpTower.places": SEEDS,
    "towers/two_tower.py:TwoTower.encode_query": SEEDS,
    "towers/two_tower.py:TwoTower.encode_candidate": SEEDS,
    "training/model.py:RetrievalModel.compute_loss": "tfrs.Model gives its arguments their names; and " + SEEDS,
}
"""`file:function` or `file:Class.method` whose arguments have other names in the twin, and why."""
FRAMEWORK_METHODS: Mapping[str, str] = {
    "call": "Keras: what torch.nn calls forward",
    "forward": "torch.nn: what Keras calls call",
}
NUMPY_ROOMS: Mapping[str, str] = {
    "grpc_server.py": "tensors of requests become the rows that the contract reads, and arrays of answers tensors",
    "inputs.py": "arrays enter (crossing 1)",
    "callables.py": "arrays in, arrays out (crossing 2)",
    "weights.py": "variables to canonical arrays (crossing 3)",
    "indexes/scann_index.py": "vectors have left the framework before an index sees them",
    "indexes/faiss_factories.py": "vectors have left the framework before an index sees them",
    "indexes/faiss_index.py": "vectors have left the framework before an index sees them",
    "indexes/faiss_structure.py": "vectors have left the framework before an index sees them",
    "indexes/partition_blocks.py": "vectors have left the framework before an index sees them",
    "indexes/partition_scan.py": "arrays become variables once, when the search is made",
    "indexes/partitioned_index.py": "vectors have left the framework before an index sees them",
    "indexes/partitions.py": "vectors have left the framework before an index sees them",
    "indexes/principal_axes.py": "vectors have left the framework before an index sees them",
}
BANNED_FILE_NAMES = {"utils", "helpers", "common", "misc", "core"}
TOLERANCE_ARGUMENTS = {"rtol", "atol", "rel", "abs"}
TOLERANT_CALLS = {"allclose", "isclose", "approx", "assert_allclose", "assert_almost_equal"}

Signatures = dict[str, list[str] | None]


def test_the_twins_have_the_same_files():
    tf, torch = set(_modules(TF)), set(_modules(TORCH))
    lone = {f"{TF}/{name}" for name in tf - torch} | {f"{TORCH}/{name}" for name in torch - tf}
    assert {file for file in lone if not file.startswith(tuple(FOLDERS_OF_ONE_STACK))} == set(FILES_OF_ONE_STACK)


def test_the_twins_have_the_same_public_names():
    lone = set()
    for file, (tf, torch) in _twins():
        lone |= {f"{TF}/{file}:{name}" for name in set(tf) - set(torch)}
        lone |= {f"{TORCH}/{file}:{name}" for name in set(torch) - set(tf)}
    assert sorted(lone - set(NAMES_OF_ONE_STACK)) == []
    assert sorted(set(NAMES_OF_ONE_STACK) - lone) == [], "listed as an exception, and is none any more"


def test_the_twins_have_the_same_argument_names():
    differ = {
        f"{file}:{name}": (tf[name], torch[name])
        for file, (tf, torch) in _twins()
        for name in set(tf) & set(torch)
        if tf[name] != torch[name]
    }
    assert {name: pair for name, pair in differ.items() if name not in ARGUMENTS_THAT_DIFFER} == {}
    assert sorted(set(ARGUMENTS_THAT_DIFFER) - set(differ)) == [], "listed as an exception, and is none any more"


def test_signatures_notices_another_name_and_another_argument():
    one = _signatures(
        ast.parse("def f(a, *, b): ...\nclass C:\n  def __init__(self, x): ...\n  def m(self): ...\nN = 1")
    )
    assert one == {"f": ["a", "b"], "C": None, "C.__init__": ["x"], "C.m": [], "N": None}
    assert _signatures(ast.parse("def f(a, *, c): ...")) != _signatures(ast.parse("def f(a, *, b): ..."))
    assert _signatures(ast.parse("def _f(a): ...\n_N = 1\nclass _C: ...")) == {}


@pytest.mark.parametrize("stack", [TF, TORCH])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_short(stack, verb):
    assert len((ROOT / stack / f"{verb}.py").read_text().splitlines()) <= MAX_VERB_LINES


@pytest.mark.parametrize("stack", [TF, TORCH])
def test_numpy_is_imported_in_the_crossings_only(stack):
    importers = {name for name, tree in _modules(stack).items() if "numpy" in _imported(tree)}
    assert sorted(importers - set(NUMPY_ROOMS)) == []


@pytest.mark.parametrize(("stack", "twin"), [(TF, TORCH), (TORCH, TF)])
def test_a_stack_never_imports_the_other(stack, twin):
    files = (ROOT / stack).rglob("*.py")
    assert [str(file) for file in files if twin in _imported(ast.parse(file.read_text()))] == []


def test_no_file_is_a_drawer():
    packages = (TF, TORCH, "retrieval_contract", "parity_tests")
    assert [
        str(file) for package in packages for file in (ROOT / package).rglob("*.py") if file.stem in BANNED_FILE_NAMES
    ] == []


def test_tolerances_stand_in_one_file():
    found = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted((ROOT / "parity_tests").rglob("*.py"))
        if file.name not in ("tolerances.py", "comparing_test.py")
        for line in _tolerances(ast.parse(file.read_text()))
    ]
    assert found == []


def test_tolerances_notices_a_literal():
    assert list(_tolerances(ast.parse("np.allclose(a, b)\nf(rtol=1e-3)\nf(rtol=x)\npytest.approx(3)"))) == [1, 2, 4]


def _modules(stack: str) -> dict[str, ast.Module]:
    """Syntax trees of a stack's modules, tests left out, by path inside the stack."""
    folder = ROOT / stack
    files = (
        file
        for file in sorted(folder.rglob("*.py"))
        if not file.name.endswith("_test.py") and file.name != "conftest.py"
    )
    return {file.relative_to(folder).as_posix(): ast.parse(file.read_text()) for file in files}


def _twins() -> Iterator[tuple[str, tuple[Signatures, Signatures]]]:
    tf, torch = _modules(TF), _modules(TORCH)
    for file in sorted(set(tf) & set(torch)):
        yield file, (_signatures(tf[file]), _signatures(torch[file]))


def _signatures(tree: ast.Module) -> Signatures:
    """Public names of a module; functions and methods with their argument names, in order."""
    found: Signatures = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = _arguments(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
            # A property is an attribute, and the twin may keep it as one.
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not _is_property(part)]
            found |= {f"{node.name}.{method.name}": _arguments(method)[1:] for method in methods}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: None for target in targets if isinstance(target, ast.Name)}
    return {name: arguments for name, arguments in found.items() if _is_public(name)}


def _is_property(function: ast.FunctionDef) -> bool:
    return any(getattr(decorator, "id", "") in ("property", "cached_property") for decorator in function.decorator_list)


def _is_public(name: str) -> bool:
    first, _, method = name.partition(".")
    return (
        not first.startswith("_")
        and method not in FRAMEWORK_METHODS
        and (method == "__init__" or not method.startswith("_"))
    )


def _arguments(function: ast.FunctionDef) -> list[str]:
    spec = function.args
    return [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]


def _imported(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def _tolerances(tree: ast.Module) -> Iterator[int]:
    """Lines with a call that compares by a tolerance of its own, or with a literal tolerance."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            literal = any(
                word.arg in TOLERANCE_ARGUMENTS and isinstance(word.value, ast.Constant) for word in node.keywords
            )
            if name in TOLERANT_CALLS or literal:
                yield node.lineno
