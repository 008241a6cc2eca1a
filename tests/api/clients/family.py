"""The demo model under a chat template that knows tools, for clients that call them."""
import os
import shutil

import openai
import pytest

from conftest import DEMO, ROOT, start_real

assert openai.__version__.split(".")[0] == os.environ["CHORUS_SDK_MAJOR"], openai.__version__
ASK = [{"role": "user", "content": "Tell me a story about a lantern."}]


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("tagged")
    model = tmp / "storyteller"
    shutil.copytree(DEMO, model)
    shutil.copy(ROOT / "tests/jinja/templates/qwen2_5.jinja", model / "chat_template.jinja")
    s = start_real(tmp, "--model", str(model), "--adapters", str(model / "adapters"))
    yield s
    assert s.stop() == 0
    assert "ERROR: AddressSanitizer" not in s.log_text() and "runtime error" not in s.log_text(), s.log_text()[-4000:]
