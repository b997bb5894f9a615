# tests/truth/exact.awk -v want=WORD TABLE [REPORTS...] - vLLM's starts that printed pool and blocks.
#     low, high   the pool at that end of what its printed digits leave, a line each
#     blocks      (reports of low) a pool that holds as many blocks as were printed
#     compare     (reports of low, high, blocks) id, figure, printed, planned and half a unit; blocks
#                 within those of both ends count as planned

function number(text, key,    n) {
    n = index(text, "\"capacity\": {")
    text = substr(text, n)
    n = index(text, "\"" key "\": ")
    return substr(text, n + length(key) + 4) + 0
}
function printed(name) { return f[at[name]] }
function put(figure, want_text, got, half) {
    if (want_text != "")
        printf "%s\t%s\t%s\t%.15g\t%s\n", printed("id"), figure, want_text, got, half
}

FNR == 1 { file++ }
file == 1 && /^#/ { next }
file == 1 && !columns {
    columns = split($0, f, ",")
    for (i = 1; i <= columns; i++)
        at[f[i]] = i
    next
}
file == 1 {
    split($0, f, ",")
    if (printed("engine") != "vllm" || printed("kv_pool_bytes") == "" || printed("kv_blocks") == "")
        next
    row[++rows] = $0
    next
}
{ report[file, ++n[file]] = $0 }
END {
    for (i = 1; i <= rows; i++) {
        split(row[i], f, ",")
        half = printed("tolerance_pool")
        if (want == "low" || want == "high") {
            printf "%.0f\n", printed("kv_pool_bytes") + (want == "low" ? -half : half)
            continue
        }
        low = number(report[2, i], "kv_blocks")
        if (want == "blocks") {
            printf "%.0f\n", (printed("kv_pool_bytes") - half) * (printed("kv_blocks") + 0.5) / (low + 0.5)
            continue
        }
        high = number(report[3, i], "kv_blocks")
        blocks = printed("kv_blocks")
        put("kv_blocks", blocks, blocks < low ? low : blocks > high ? high : blocks, 0)
        put("kv_tokens", printed("kv_tokens"), number(report[4, i], "kv_tokens"), 0)
        put("max_concurrency", printed("max_concurrency"), number(report[4, i], "max_concurrency"), 0.005)
    }
}
