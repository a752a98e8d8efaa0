"""Makes the code that protoc generated a part of this package: `adopt.py GENERATED PACKAGE`, for `make generate`."""

import re
import sys
from pathlib import Path

generated, package = map(Path, sys.argv[1:])
package.mkdir(parents=True)
(package / "__init__.py").touch()
for file in sorted(generated.iterdir()):
    text = file.read_text()
    if "_pb2_grpc" in file.name and "Stub" not in text:
        continue  # Of a file without a service.
    text = re.sub(r"^from messenger\.v1 import", "from messenger_connector.v1 import", text, flags=re.MULTILINE)
    # A Struct may be given as a dict, which the generated types do not know.
    given = "_struct_pb2.Struct | _builtins.dict[_builtins.str, _typing.Any] | None"
    text = text.replace(": _struct_pb2.Struct | None = ", f": {given} = ")
    (package / file.name).write_text(text)
