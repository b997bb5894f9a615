# tests/truth/residuals.awk -v engine=NAME - the residuals of an engine's starts as a profile, from the
# pairs (after tests/truth/lib.awk): (printed - planned) / planned, for a cache pool `of: usable`
# (printed - planned) / usable. Starts that stand apart are left out and named.

# Fills e[1..n] with the residuals of fit or score starts, and adds to `models` those not seen yet.
function gather(range, figure, use, e,    k, n, of) {
    n = 0
    for (k = 1; k <= n_pairs; k++) {
        if (p_range[k] != range || p_figure[k] != figure || p_use[k] != use || p_id[k] in why_apart || \
            p_planned[k] == "-")
            continue
        of = figure ~ /kv_pool_bytes/ && r_of[range] == "usable" ? p_usable[k] : p_planned[k] + 0
        if (of <= 0)
            continue
        e[++n] = (p_printed[k] - p_planned[k]) / of
        if (!((range, figure, p_model[k]) in model_seen)) {
            model_seen[range, figure, p_model[k]] = 1
            models++
        }
    }
    return n
}
# Six decimals, and no minus before nothing.
function decimal(x) {
    x = sprintf("%.6f", x)
    return x == "-0.000000" ? "0.000000" : x
}
function spread(use, e, n) {
    if (!n)
        return
    sort_list(e, n)
    printf "        %s: {starts: %d, least: %s, q05: %s, median: %s, q95: %s, most: %s}\n", use, n, \
        decimal(e[1]), decimal(quantile(e, n, 0.05)), decimal(quantile(e, n, 0.5)), \
        decimal(quantile(e, n, 0.95)), decimal(e[n])
}
function print_figure(range, figure,    fit, score, n, m) {
    models = 0
    n = gather(range, figure, "fit", fit)
    m = gather(range, figure, "score", score)
    if (!(n + m))
        return
    printf "      - figure: %s\n        models: %d\n", figure, models
    spread("fit", fit, n)
    spread("score", score, m)
}
function count_starts(range,    k, n, seen) {
    for (k = 1; k <= n_pairs; k++)
        if (p_range[k] == range && !(p_id[k] in seen) && !(p_id[k] in why_apart)) {
            seen[p_id[k]] = 1
            n++
        }
    return n
}
function versions(range,    k, text, seen) {
    for (k = 1; k <= n_pairs; k++)
        if (p_range[k] == range && p_version[k] != "" && !(p_version[k] in seen)) {
            seen[p_version[k]] = 1
            text = text (text == "" ? "" : ", ") "\"" p_version[k] "\""
        }
    return text
}
function gpus(range,    k, text, seen) {
    for (k = 1; k <= n_pairs; k++)
        if (p_range[k] == range && p_gpu[k] != "" && !(p_id[k] in why_apart) && !(p_gpu[k] in seen)) {
            seen[p_gpu[k]] = 1
            text = text (text == "" ? "" : ", ") p_gpu[k]
        }
    return text
}
function print_range(range,    i, k, id, any) {
    printf "  - words: \"%s\"\n", r_words[range]
    if (r_from[range] != "")
        printf "    from: \"%s\"\n    before: \"%s\"\n", r_from[range], r_before[range]
    printf "    starts: %d\n    versions: [%s]\n    gpus: [%s]\n    pool_of: %s\n", count_starts(range), \
        versions(range), gpus(range), r_of[range]
    for (id in why_apart) {
        any = 0
        for (k = 1; k <= n_pairs; k++)
            any = any || (p_id[k] == id && p_range[k] == range)
        if (any)
            printf "    left_out: [{start: %s, reason: \"%s\"}]\n", id, why_apart[id]
    }
    print "    figures:"
    for (i = 1; i <= n_figures; i++)
        print_figure(range, figures[i])
}
BEGIN {
    n_figures = split("memory.per_gpu.weights_bytes memory.per_gpu.activation_bytes " \
        "memory.per_gpu.non_torch_bytes memory.per_gpu.cuda_graph_bytes memory.per_gpu.workspace_bytes " \
        "memory.per_gpu.kv_pool_bytes capacity.kv_tokens capacity.max_concurrency capacity.max_batch", \
        figures, " ")
}
END {
    if (failed)
        exit 1
    printf "name: %s\n", engine
    printf "source: \"%s: measured starts, a public source on each row; compared with the program by tests/truth/run\"\n", \
        engine == "llamacpp" ? "tests/data/engine_llamacpp.csv" : "tests/data/engines.csv"
    print "note: \"written by tests/truth/run --residuals: (printed - planned) / planned, of the pool / pool_of\""
    print "ranges:"
    for (i = 1; i <= n_ranges; i++)
        if (r_engine[i] == engine)
            print_range(i)
}
