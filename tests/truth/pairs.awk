# tests/truth/pairs.awk TABLE REPORTS - a table of measured starts and the reports of its specs (a
# line each, in the order of the table) as one line a figure:
#     id use engine version model figure printed planned half-unit usable gpu
# with tabs between, `-` where the report has no such figure. `usable` is the memory that the
# engine may use, of one GPU; `model` names its sizes.

function number(text, section, key,    s, n) {
    n = index(text, "\"" section "\": {")
    s = substr(text, n)
    n = n ? index(s, "\"" key "\": ") : 0
    return n ? substr(s, n + length(key) + 4) + 0 : ""
}
function pair(name, figure, planned, half) {
    if (!(name in at) || f[at[name]] == "")
        return
    printf "%s\t%s\t%s\t%s\t%s\t", f[at["id"]], use, engine, version, model
    printf "%s\t%.15g\t%s\t%.15g\t%.15g\t%s\n", figure, f[at[name]], \
        planned == "" ? "-" : sprintf("%.15g", planned), half, \
        number(line, "per_gpu", "usable_bytes"), "gpu" in at ? f[at["gpu"]] : ""
}
function bytes(name, key, half) {
    pair(name, "memory.per_gpu." key, number(line, "per_gpu", key), half)
}
function vllm_and_others() {
    use = f[at["use"]]; engine = f[at["engine"]]; version = f[at["version"]]
    model = f[at["config"]]
    half = f[at["tolerance_pool"]] + 0
    bytes("weights_bytes", "weights_bytes", half)
    bytes("activation_bytes", "activation_bytes", half)
    bytes("non_torch_bytes", "non_torch_bytes", half)
    bytes("cuda_graph_bytes", "cuda_graph_bytes", half)
    bytes("kv_pool_bytes", "kv_pool_bytes", half)
    pair("kv_blocks", "capacity.kv_blocks", number(line, "capacity", "kv_blocks"), 0.5)
    pair("kv_tokens", "capacity.kv_tokens", number(line, "capacity", "kv_tokens"), 0.5)
    pair("max_concurrency", "capacity.max_concurrency", number(line, "capacity", "max_concurrency"), 0.005)
    pair("max_batch", "capacity.max_batch", number(line, "capacity", "max_batch"), 0.5)
}
function llamacpp() {
    use = f[at["compute_bytes"]] == "" ? "score" : "fit"
    engine = "llamacpp"; version = ""; model = f[at["model"]]
    half = f[at["tolerance"]] + 0
    pair("k_bytes", "cache.k_bytes", number(line, "cache", "k_bytes"), half)
    pair("v_bytes", "cache.v_bytes", number(line, "cache", "v_bytes"), half)
    bytes("pool_bytes", "kv_pool_bytes", half)
    pair("state_bytes", "cache.state_bytes_per_sequence", \
         number(line, "cache", "state_bytes_per_sequence"), half)
    bytes("compute_bytes", "workspace_bytes", half)
}
FNR == 1 { file++ }
file == 1 && /^#/ { next }
file == 1 { row[rows++] = $0; next }
{
    line = $0
    separator = row[0] ~ /;/ ? ";" : ","
    if (!columns) {
        columns = split(row[0], f, separator)
        for (i = 1; i <= columns; i++)
            at[f[i]] = i
    }
    split(row[++n], f, separator)
    if (separator == ";") llamacpp()
    else vllm_and_others()
}
END {
    if (n + 1 != rows) {
        print "tests/truth: " rows - 1 " starts but " n " reports" > "/dev/stderr"
        exit 1
    }
}
