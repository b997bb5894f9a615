# tests/truth/lib.awk - reading what tests/truth/pairs.awk wrote, by version range.
# -v ranges=FILE -v apart=FILE; the pairs are the input.

function version_number(text,    part, n) {
    n = split(text, part, ".")
    return (part[1] * 1000 + (n > 1 ? part[2] : 0)) * 1000 + (n > 2 ? part[3] + 0 : 0)
}
function read_ranges(    line, f) {
    while ((getline line < ranges) > 0) {
        if (line ~ /^#/)
            continue
        split(line, f, ";")
        n_ranges++
        r_engine[n_ranges] = f[1]
        r_from[n_ranges] = f[2]
        r_before[n_ranges] = f[3]
        r_words[n_ranges] = f[4]
        r_of[n_ranges] = f[5]
    }
}
function read_apart(    line, n) {
    while ((getline line < apart) > 0)
        if (line !~ /^#/ && (n = index(line, ";")))
            why_apart[substr(line, 1, n - 1)] = substr(line, n + 1)
}
function range_of(engine, version,    i, v) {
    v = version_number(version)
    for (i = 1; i <= n_ranges; i++)
        if (r_engine[i] == engine && (r_from[i] == "" || v >= version_number(r_from[i])) && \
            (r_before[i] == "" || v < version_number(r_before[i])))
            return i
    print "tests/truth: no range holds " engine " " version > "/dev/stderr"
    failed = 1
    exit 1
}
function absolute(x) { return x < 0 ? -x : x }
# Sorts list[1..n] in place.
function sort_list(list, n,    i, j, x) {
    for (i = 2; i <= n; i++) {
        x = list[i]
        for (j = i - 1; j >= 1 && list[j] > x; j--)
            list[j + 1] = list[j]
        list[j + 1] = x
    }
}
# The order statistic at p (n + 1), interpolated, of a sorted list; its ends where there are too few.
function quantile(list, n, p,    at, low) {
    at = p * (n + 1)
    low = int(at)
    if (low < 1)
        return list[1]
    if (low >= n)
        return list[n]
    return list[low] + (at - low) * (list[low + 1] - list[low])
}

BEGIN {
    FS = "\t"
    read_ranges()
    read_apart()
}
# p_*[k]: the pairs, k from 1.
{
    n_pairs++
    p_id[n_pairs] = $1
    p_use[n_pairs] = $2
    p_range[n_pairs] = range_of($3, $4)
    p_version[n_pairs] = $4
    p_model[n_pairs] = $5
    p_figure[n_pairs] = $6
    p_printed[n_pairs] = $7 + 0
    p_planned[n_pairs] = $8
    p_half[n_pairs] = $9 ? $9 + 0 : 5368710
    p_usable[n_pairs] = $10 + 0
    p_gpu[n_pairs] = $11
}
