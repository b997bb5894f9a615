# tests/truth/specs.awk TABLE - a table of measured starts (tests/data/engines.csv, or with
# -v models=FILE tests/data/engine_llamacpp.csv) as a stream of specs, one a start, in the order of
# the table. With -v pools=FILE the starts that printed pool and blocks alone, each with the pool of
# FILE's next line handed in.

function value(name) { return name in at ? $(at[name]) : "" }
function key(name, word) { return value(name) == "" ? "" : word ": " value(name) ", " }
function version() { return value("version") == "" ? "" : "version: \"" value("version") "\", " }
function llamacpp() {
    print "---\nmodel: {" shape[value("model")] "}\nhardware: {memory: 4TiB}"
    print "engine: {name: llamacpp, " key("n_ctx", "max_model_len") key("n_batch", "n_batch") \
        key("n_ubatch", "n_ubatch") key("n_seq", "n_seq") key("unified", "kv_unified") \
        key("flash", "flash_attn") "}"
    if (value("k_type") != "")
        print "cache: {k: " value("k_type") ", v: " value("v_type") "}"
}
function others() {
    print "---\nmodel: {config: tests/data/configs/" value("config") ".json}"
    print "hardware: {" key("gpu", "gpu") key("memory_bytes", "memory") "count: " value("count") "}"
    print "parallel: {tp: " value("tp") ", pp: " value("pp") "}"
    print "engine: {name: " value("engine") ", " version() key("fraction", "memory_fraction") \
        key("max_model_len", "max_model_len") key("max_seqs", "max_seqs") \
        key("max_batched_tokens", "max_batched_tokens") key("block_tokens", "block_tokens") \
        key("cuda_graphs", "cuda_graphs") "}"
    print "weights: {" key("weights", "format") "}\ncache: {" key("cache", "format") "}"
    print "workload: {" key("prompt", "prompt") key("output", "output") "}"
    if (pools != "" && (getline given < pools) > 0)
        print "memory: {per_gpu: {kv_pool_bytes: " given "}}"
}

BEGIN {
    FS = models == "" ? "," : ";"
    while (models != "" && (getline line < models) > 0)
        if (line !~ /^#/ && (n = index(line, ";")))
            shape[substr(line, 1, n - 1)] = substr(line, n + 1)
}
/^#/ { next }
!header++ {
    for (i = 1; i <= NF; i++)
        at[$i] = i
    next
}
models != "" { llamacpp(); next }
pools == "" || (value("engine") == "vllm" && value("kv_pool_bytes") != "" && value("kv_blocks") != "") {
    others()
}
