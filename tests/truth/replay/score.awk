# Four CSV files with headers: real requests, simulated requests, real seconds, simulated seconds.
# One line of the table; exit 1 beyond the bounds. A server that printed no cache use (all 0) is
# not compared in it.
FNR == 1 {
	file++
	delete at
	for (i = 1; i <= NF; i++)
		at[$i] = i
	next
}
file == 1 {
	n++
	ttft += $at["first_token_s"] - $at["arrival_s"]
	tpot += ($at["last_token_s"] - $at["first_token_s"]) / ($at["output_tokens"] - 1)
}
file == 2 && $at["end"] == "done" {
	m++
	sim_ttft += $at["first_token_s"] - $at["arrival_s"]
	sim_tpot += ($at["last_token_s"] - $at["first_token_s"]) / ($at["output_tokens"] - 1)
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
function off(a, b) {
	return 100 * (a / b - 1)
}
END {
	if (!n || n != m) {
		printf "replay: %s: %d requests, %d simulated to their end\n", name, n, m
		exit 1
	}
	for (s = 1; s <= last; s++) {
		if (!(s in use))
			continue
		d = use[s] - (s in sim_use ? sim_use[s] : 0)
		sum += d < 0 ? -d : d
		seconds++
	}
	e1 = off(sim_ttft, ttft)
	e2 = off(sim_tpot, tpot)
	printf "%-28s %9.2f %9.2f %6.1f%% %9.2f %9.2f %6.1f%% %10s\n", name, sim_ttft / n, ttft / n,
		e1, 1000 * sim_tpot / n, 1000 * tpot / n, e2,
		printed ? sprintf("%.2f", sum / seconds) : "-"
	exit e1 > 15 || e1 < -15 || e2 > 10 || e2 < -10 || (printed && sum / seconds > 5)
}
