"""What is generated for other languages is that of today's proto/."""

import importlib.util
from pathlib import Path

# By its path: `clients` is a folder of scripts, no package.
_SPEC = importlib.util.spec_from_file_location("generate", Path(__file__).resolve().parents[2] / "clients" / "generate.py")
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
CLIENTS, interface = _MODULE.CLIENTS, _MODULE.interface
REMEDY = "run `make gen`"


def test_the_descriptors_of_the_node_client_are_fresh() -> None:
    files, _ = interface(comments=False)
    assert files.SerializeToString(deterministic=True) == (CLIENTS / "node" / "gen" / "spillway.binpb").read_bytes(), REMEDY


def test_the_go_stubs_know_every_message_and_field() -> None:
    files, ours = interface(comments=False)
    for file in files.file:
        if file.name not in ours:
            continue
        text = (CLIENTS / "go" / "gen" / file.name).with_suffix(".pb.go").read_text()
        for message in file.message_type:
            assert f"type {message.name} struct" in text, f"{message.name}: {REMEDY}"
            for field in message.field:
                assert f"name={field.name}," in text, f"{message.name}.{field.name}: {REMEDY}"


def test_clients_need_no_library_of_the_pipelines_options() -> None:
    files, ours = interface(comments=False)
    assert [] == [name for name in ours if "policy" in name or "record" in name]
    assert [] == [(file.name, name) for file in files.file for name in file.dependency if name.startswith("buf/")]
