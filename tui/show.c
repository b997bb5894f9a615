/* Figures in the words of the report. */
#include "tui/show.h"

#include <math.h>
#include <stdio.h>

#include "planner/base/unit.h"

const char *show_bytes(uint64_t bytes, char buf[SHOW_TEXT])
{
    return unit_format_bytes(bytes, buf, SHOW_TEXT);
}

const char *show_count(uint64_t n, char buf[SHOW_TEXT])
{
    return unit_format_count(n, buf, SHOW_TEXT);
}

const char *show_seconds(double s, char buf[SHOW_TEXT])
{
    return unit_format_seconds(s, buf, SHOW_TEXT);
}

const char *show_per_s(double per_s, char buf[SHOW_TEXT])
{
    if (per_s >= 100 && per_s < 1e18)
        return unit_format_count((uint64_t)(per_s + 0.5), buf, SHOW_TEXT);
    snprintf(buf, SHOW_TEXT, per_s < 100 ? "%.1f" : "%.3g", per_s);
    return buf;
}

const char *show_most(uint64_t n, enum limit why, char buf[SHOW_TEXT])
{
    if (why != LIMIT_NONE)
        return show_count(n, buf);
    snprintf(buf, SHOW_TEXT, "no limit");
    return buf;
}

const char *show_times(double v, double of, char buf[SHOW_TEXT])
{
    buf[0] = '\0';
    if (of > 0)
        snprintf(buf, SHOW_TEXT, v / of < 10 ? "%.2fx" : "%.0fx", v / of);
    return buf;
}

const char *show_change(double v, double of, char buf[SHOW_TEXT])
{
    if (v == of)
        snprintf(buf, SHOW_TEXT, "same");
    else if (of > 0 && v / of >= 10)
        snprintf(buf, SHOW_TEXT, "x %.3g", v / of);
    else if (of > 0)
        snprintf(buf, SHOW_TEXT, "%+.1f %%", 100 * (v / of - 1));
    else
        snprintf(buf, SHOW_TEXT, "new");
    return buf;
}

/* --- axes ------------------------------------------------------------------------------- */

/* A value with the largest unit it fills, `base` between units. */
static void tick(double v, double base, const char *const *units, char *buf, size_t n)
{
    size_t i = 0;

    for (; v >= base && units[i + 1]; i++)
        v /= base;
    snprintf(buf, n, v >= 100 || v == floor(v) ? "%.0f%s" : "%.3g%s", v, units[i]);
}

void show_tick_tokens(double v, char *buf, size_t n)
{
    static const char *const units[] = {"", "k", "M", "G", NULL};

    tick(v, 1024, units, buf, n);
}

void show_tick_count(double v, char *buf, size_t n)
{
    static const char *const units[] = {"", "k", "M", "G", "T", NULL};

    tick(v, 1000, units, buf, n);
}

void show_tick_bytes(double v, char *buf, size_t n)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", NULL};

    tick(v, 1024, units, buf, n);
}

void show_tick_seconds(double v, char *buf, size_t n)
{
    if (v == 0)
        snprintf(buf, n, "0 s");
    else if (v < 1e-3)
        snprintf(buf, n, "%.3g us", 1e6 * v);
    else if (v < 1)
        snprintf(buf, n, "%.3g ms", 1e3 * v);
    else
        snprintf(buf, n, v < 1000 ? "%.3g s" : "%.0f s", v);
}
