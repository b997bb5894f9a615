"""A small hub on this machine, and kvbudget import against it. Run by tests/script/hub.

The server knows ranges, redirects and tokens; it counts the bytes it sends, so that the test
sees that weights are never fetched."""
import http.server, json, os, struct, subprocess, sys, tempfile, threading

PROGRAM = sys.argv[1]
MIB = 1 << 20


def safetensors(tensors, pad=0):
    header, at = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text, at


def gguf():
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()
    keys = [("general.architecture", 8, text("llama")), ("general.name", 8, text("Tiny")),
            ("llama.block_count", 4, struct.pack("<I", 1)),
            ("llama.embedding_length", 4, struct.pack("<I", 64)),
            ("llama.attention.head_count", 4, struct.pack("<I", 2)),
            # a vocabulary that is longer than the first request
            ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 30000) + text("tok") * 30000)]
    b = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys))
    for k, t, v in keys:
        b += text(k) + struct.pack("<I", t) + v
    b += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 64, MIB, 1, 0)
    return b + b"\0" * (-len(b) % 32), 128 * MIB


CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8, "vocab_size": 10,
                     "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
                     "torch_dtype": "bfloat16", "tie_word_embeddings": True}).encode()
# name -> (first bytes, length of the zeros behind them)
FILES = {
    "org/two/resolve/main/config.json": (CONFIG, 0),
    "org/two/resolve/main/model.safetensors.index.json": (json.dumps(
        {"metadata": {}, "weight_map": {"a": "m1.safetensors", "b": "m2.safetensors"}}).encode(), 0),
    # a header that is longer than the first request
    "org/two/resolve/main/m1.safetensors": safetensors({"a": ("BF16", [MIB], 2 * MIB)}, 300000),
    "org/two/resolve/main/m2.safetensors": safetensors({"b": ("F32", [3 * MIB], 12 * MIB)}),
    "org/gguf/resolve/v2/sub/tiny.gguf": gguf(),
    "org/shapes/resolve/main/config.json": (CONFIG, 0),
    "org/plain/resolve/main/config.json": (CONFIG, 0),
    "org/plain/resolve/main/model.safetensors": safetensors({"a": ("BF16", [MIB], 2 * MIB)}, 300000),
}
sent, seen = [0], []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent[0] += len(body)
        try:
            self.wfile.write(body)
        except OSError:
            pass

    def do_GET(self):
        path = self.path.lstrip("/")
        seen.append((path, self.headers.get("Authorization")))
        if path.startswith("org/gated/"):
            return self.reply(401, b"no")
        if path.startswith("org/busy/"):
            return self.reply(503, b"no")
        if path.startswith("org/moved/"):  # to the same server under another name
            return self.reply(302, Location="http://localhost:%d/%s" % (
                self.server.server_port, path.replace("moved", "two")))
        if path not in FILES:
            return self.reply(404, b"no such file")
        first, zeros = FILES[path]
        size, want = len(first) + zeros, self.headers.get("Range", "")
        if path.startswith("org/plain/") or not want:  # a server without ranges
            return self.reply(200, (first + b"\0" * zeros))
        a, b = want[len("bytes="):].split("-")
        a, b = int(a), min(int(b), size - 1)
        body = (first[a:b + 1] + b"\0" * (b + 1 - max(a, len(first)))) if b + 1 > len(first) else first[a:b + 1]
        self.reply(206, body, Content_Range="bytes %d-%d/%d" % (a, b, size))

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.handle_error = lambda *args: None  # a client that has enough hangs up
threading.Thread(target=server.serve_forever, daemon=True).start()
here = "http://127.0.0.1:%d" % server.server_port
empty = tempfile.TemporaryDirectory()
count = bad = 0


def run(args, **env):
    base = {k: v for k, v in os.environ.items()
            if not k.startswith("HF_") and not k.lower().endswith("_proxy")}
    base.update(HF_ENDPOINT=here + "/", HF_HOME=empty.name, HOME=empty.name, NO_COLOR="1")
    base.update(env)
    sent[0], seen[:] = 0, []
    p = subprocess.run([PROGRAM, "import"] + args, env=base, capture_output=True, text=True, cwd=empty.name)
    return p.returncode, p.stdout, p.stderr.replace(here, "HUB")


def check(name, ok, *what):
    global count, bad
    count += 1
    print("%s %d - %s" % ("ok" if ok else "not ok", count, name))
    if not ok:
        bad += 1
        for w in what:
            print("\n".join("# " + l for l in str(w).split("\n")))


rc, out, err = run(["-v", "org/two"])
check("a repository in two files becomes a profile", rc == 0 and "name: org/two\n" in out
      and "weights_bytes: %d\n" % (14 * MIB) in out, rc, out, err)
check("both figures are shown", "2 safetensors files hold 14680064 bytes of weights; the config's shapes "
      "give 1360; the files count" in err, err)
check("only headers are fetched", sent[0] < 2 * MIB, sent)
check("no token is sent without HF_TOKEN", not any(t for _, t in seen), seen)
rc, again, err = run(["org/moved"], HF_TOKEN="secret")
check("redirects are followed", rc == 0 and again == out.replace("org/two", "org/moved"), rc, again, err)
check("the token goes to the hub", all(t == "Bearer secret" for p, t in seen if "moved" in p), seen)
check("and to no other host", all(t is None for p, t in seen if "two" in p)
      and any("two" in p for p, _ in seen), seen)
rc, out, err = run(["org/gguf/sub/tiny.gguf@v2"])
check("a GGUF file by its name and revision", rc == 0 and "name: Tiny\n" in out
      and "weights_bytes: %d\n" % (128 * MIB) in out, rc, out, err)
check("of it only the header is fetched", sent[0] < 4 * MIB, sent)
rc, out, err = run(["org/shapes"])
check("a repository without weights gives shapes", rc == 0 and "weights_bytes" not in out, rc, out, err)
for what, args, want in [
        ("there is no config.json", ["org/gguf"],
         "HUB/org/gguf/resolve/main: error: holds no config.json (a GGUF file is imported by its own name)\n"),
        ("the file is not there", ["org/gguf/none.gguf"],
         "HUB/org/gguf/resolve/main: error: there is no 'none.gguf' there\n"),
        ("a gated model", ["org/gated"],
         "HUB/org/gated/resolve/main/config.json: error: the hub refuses it (HTTP 401): there is no such model, "
         "or it is private or gated and HF_TOKEN must hold a token that may read it\n"),
        ("a busy hub", ["org/busy"],
         "HUB/org/busy/resolve/main/config.json: error: the hub answers with HTTP 503\n"),
        ("a server without ranges", ["org/plain"],
         "HUB/org/plain/resolve/main/model.safetensors: error: the server does not answer range requests, and "
         "the whole file is not fetched\n")]:
    rc, out, err = run(args)
    check(what + ": refused", rc == 3 and out == "" and err == want, rc, out, err, want)
rc, out, err = run(["org/two"], HF_HUB_OFFLINE="1")
check("HF_HUB_OFFLINE is kept to", rc == 3 and not seen, rc, err, seen)
rc, out, err = run(["org/two"], HF_ENDPOINT="http://127.0.0.1:1")
check("nobody answers", rc == 3 and "/config.json: error: cannot be fetched: " in err, rc, err)
print("1..%d" % count)
sys.exit(bad > 0)
