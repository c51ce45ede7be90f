"""The API tab: calls to copy, with the address of this very page in them.

Owns the text of the examples; a test runs them. The endpoints are made in the other tabs.
"""

import gradio as gr

from ehmfaces.ui.boundary import with_sentences

_PYTHON = """# pip install ehmfaces   (or: pip install gradio_client, then see below)
from ehmfaces.client import Client

client = Client("{url}")
print(client.generate(seeds="1,2,5-7", out="faces"))
print(client.mix(row_seeds="1,2,3", col_seeds="10,11", col_styles="coarse", out="grid.png"))
print(client.cutout("photo.jpg", out="photo_cut.png"))
print(client.facepack("players.csv", out="pack.zip", limit=20))
"""

_GRADIO_CLIENT = """# pip install gradio_client
from gradio_client import Client, handle_file

client = Client("{url}")
faces = client.predict(seeds="7", count=4, truncation_psi=0.7, api_name="/generate")
for face in faces:
    print(face["caption"], face["image"])

job = client.submit(roster=handle_file("players.csv"), limit=20, api_name="/facepack")
for status, newest_faces, pack, report in job:
    print(status)
print(pack, report)
"""

_CURL = """# 1. ask: the answer holds an event id
EVENT=$(curl -s -X POST {url}/gradio_api/call/v2/generate \\
  -H "Content-Type: application/json" \\
  -d '{{"seeds": "7", "count": 2, "truncation_psi": 0.7}}' | cut -d '"' -f 4)

# 2. listen until "event: complete"; its data holds the addresses of the PNG files
curl -s -N {url}/gradio_api/call/generate/$EVENT

# a roster goes up first; the answer is its path on the server, for /facepack
ROSTER=$(curl -s -F "files=@players.csv" {url}/gradio_api/upload | cut -d '"' -f 2)
EVENT=$(curl -s -X POST {url}/gradio_api/call/v2/facepack \\
  -H "Content-Type: application/json" \\
  -d '{{"roster": {{"path": "'"$ROSTER"'", "meta": {{"_type": "gradio.FileData"}}}}, "limit": 5}}' \\
  | cut -d '"' -f 4)
curl -s -N {url}/gradio_api/call/facepack/$EVENT
"""

_JAVASCRIPT = """// npm install @gradio/client
import {{ Client, handle_file }} from "@gradio/client";

const app = await Client.connect("{url}");
const faces = await app.predict("/generate", {{ seeds: "7", count: 4, truncation_psi: 0.7 }});
for (const face of faces.data[0]) console.log(face.caption, face.image.url);

const roster = new Blob(["First Name,Second Name,Date Of Birth\\nNils,Ekvarnsson,14.3.2004\\n"]);
const job = app.submit("/facepack", {{ roster: handle_file(roster), limit: 20 }});
for await (const message of job) {{
  if (message.type !== "data") continue;
  const [status, newestFaces, pack, report] = message.data;
  if (pack) console.log(pack.url, report.url);
}}
"""

_SNIPPETS = (
    ("Python", "python", _PYTHON),
    ("Python, gradio_client only", "python", _GRADIO_CLIENT),
    ("curl", "shell", _CURL),
    ("JavaScript", "javascript", _JAVASCRIPT),
)


def api_snippets(url: str) -> list[str]:
    """Return the examples for a page at this address, in the order of the tab."""
    return [text.format(url=url.rstrip("/")) for _, _, text in _SNIPPETS]


def page_url(request: gr.Request) -> str:
    """Return the address by which the visitor reached the page."""
    headers = request.headers
    host = headers.get("x-forwarded-host") or headers.get("host") or "127.0.0.1:7860"
    scheme = (headers.get("x-forwarded-proto") or "http").split(",")[0].strip()
    return f"{scheme}://{host}"


@with_sentences
def fill_snippets(request: gr.Request) -> list[str]:
    """Return the examples with the address of this page."""
    return api_snippets(page_url(request))


def build_api_tab(demo: gr.Blocks) -> None:
    """Lay out the tab."""
    with gr.Tab("API", id="api"):
        gr.Markdown(
            "Everything on this page can be called from outside: `/generate`, `/mix`, `/facepack` and "
            "`/cutout`. All parameters have names, and those left out have the defaults of the page. "
            "The full list is in [the schema](gradio_api/openapi.json) and under "
            "[info](gradio_api/info)."
        )
        boxes = []
        for text, (label, language, _) in zip(api_snippets("http://127.0.0.1:7860"), _SNIPPETS, strict=True):
            boxes.append(
                gr.Code(text, language=language, label=label, interactive=False, buttons=["copy"])  # type: ignore[arg-type]
            )
    demo.load(fill_snippets, outputs=boxes, api_visibility="private", queue=False, show_progress="hidden")
