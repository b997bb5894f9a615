# Four CSV files with headers: real requests, simulated requests, real seconds, simulated seconds.
# Prints the errors of the mean times in percent with -v errors=1; else lines of the table, the
# real ones too with -v real=1. Exit 1 beyond the bounds -v ttft= and -v tpot= in percent and
# -v cache= in points. A server that printed no cache use (all 0) is not compared in it.
FNR == 1 {
	file++
	delete at
	for (i = 1; i <= NF; i++)
		at[$i] = i
	next
}
file <= 2 && (file == 1 || $at["end"] == "done") {
	n[file]++
	k = file == 1 ? n[1] : $at["id"] + 1
	a = $at["arrival_s"]
	first[file, k] = $at["first_token_s"] - a
	token[file, k] = ($at["last_token_s"] - $at["first_token_s"]) / ($at["output_tokens"] - 1)
	# Before the server is full: the first requests, the one that waits for what a new server does
	# once left out.
	if (a > 0 && k <= 40) {
		early[file]++
		noticed[file] += $at["queued_s"] - a
		composed[file] += $at["scheduled_s"] - a
		soon[file] += $at["first_token_s"] - a
	}
}
file == 3 {
	use[int($at["t"] + 0.5)] = $at["kv_cache_pct"]
	if ($at["kv_cache_pct"] > 0)
		printed = 1
	if ($at["t"] > last)
		last = int($at["t"] + 0.5)
}
# The printed use is that of a moment; the simulated one is the mean of the second around it.
file == 4 {
	sim_use[int($at["to_s"] + 0.5)] = 100 * $at["cache_used_share"]
}
function sorted(of, f,   i, j, v) {
	for (i = 1; i <= n[f]; i++) {
		v = of[f, i]
		for (j = i - 1; j > 0 && order[j] > v; j--)
			order[j + 1] = order[j]
		order[j + 1] = v
	}
}
function rank(p, f,   r) {
	r = int(p * n[f] / 100 + 0.999999)
	return order[r < 1 ? 1 : r]
}
function mean(of, f,   i, sum) {
	for (i = 1; i <= n[f]; i++)
		sum += of[f, i]
	return sum / n[f]
}
function figures(f) {
	sorted(first, f)
	v[f, 1] = mean(first, f)
	v[f, 2] = rank(50, f)
	v[f, 3] = rank(90, f)
	v[f, 4] = rank(99, f)
	v[f, 5] = noticed[f] / early[f]
	v[f, 6] = composed[f] / early[f]
	v[f, 7] = soon[f] / early[f]
	sorted(token, f)
	v[f, 8] = 1000 * mean(token, f)
	v[f, 9] = 1000 * rank(50, f)
	v[f, 10] = 1000 * rank(90, f)
}
function line(label, f,   i) {
	printf "  %-10s", label
	for (i = 1; i <= 10; i++)
		printf(i < 5 || i > 7 ? " %7.2f" : " %7.3f", v[f, i])
}
function off(i) {
	return 100 * (v[2, i] / v[1, i] - 1)
}
END {
	if (!n[1] || n[1] != n[2]) {
		printf "replay: %d requests, %d simulated to their end\n", n[1], n[2]
		exit 1
	}
	figures(1)
	figures(2)
	for (s = 1; s <= last; s++) {
		if (!(s in use))
			continue
		d = use[s] - (s in sim_use ? sim_use[s] : 0)
		sum += d < 0 ? -d : d
		seconds++
	}
	if (errors) {
		printf "%.3f %.3f\n", off(1), off(8)
		exit 0
	}
	if (real) {
		line("real", 1)
		printf "\n"
	}
	line(label, 2)
	printf(" %7s\n", printed ? sprintf("%.2f", sum / seconds) : "-")
	printf "  %-10s", "error"
	for (i = 1; i <= 10; i++)
		printf " %6.1f%%", off(i)
	printf "\n"
	exit off(1) > ttft || off(1) < -ttft || off(8) > tpot || off(8) < -tpot ||
	     (printed && sum / seconds > cache)
}
