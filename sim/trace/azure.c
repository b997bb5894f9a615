/* The Azure LLM inference traces of 2023 and 2024: a date and a time with seven digits behind
 * the point, CR LF, no end behind the last row. */
#include "sim/trace/format.h"

enum { TICKS_PER_S = 10000000, FRACTION_DIGITS = 7 };

/* `n` digits as a number; -1 where there are fewer. */
static int digits(const char *s, int n)
{
    int v = 0;

    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

/* Days since 1970-01-01 in the Gregorian calendar; years start in March here, so that the leap
 * day is the last of a year. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = month > 2 ? month - 3 : month + 9;

    return 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int days_in(int year, int month)
{
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    if (month == 2)
        return leap ? 29 : 28;
    return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/* "2023-11-16 18:17:03.9799600", or with a T; at most 7 digits behind the point. A time zone
 * ("+00:00", "Z") may follow and must be UTC. NULL: it is none. */
static const char *parse(const char *s, int64_t *ticks)
{
    static const char shape[] = "dddd-dd-dd dd:dd:dd";
    int part[6], n = 0;
    int64_t fraction = 0;

    for (int i = 0; shape[i]; i++) {
        bool digit = s[i] >= '0' && s[i] <= '9';
        if (shape[i] == 'd' ? !digit : s[i] != shape[i] && !(shape[i] == ' ' && s[i] == 'T'))
            return NULL;
    }
    part[0] = digits(s, 4);
    for (int i = 1; i < 6; i++)
        part[i] = digits(s + 2 + 3 * i, 2);
    if (part[0] < 1 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > days_in(part[0], part[1]) || part[3] > 23 || part[4] > 59 || part[5] > 59)
        return NULL;
    s += sizeof shape - 1;
    if (*s == '.')
        for (s++; *s >= '0' && *s <= '9' && n < FRACTION_DIGITS; n++)
            fraction = fraction * 10 + (*s++ - '0');
    if (s[-1] == '.' || (n == FRACTION_DIGITS && *s >= '0' && *s <= '9'))
        return NULL;
    for (; n < FRACTION_DIGITS; n++)
        fraction *= 10;
    if (*s == 'Z')
        s++;
    else if (*s == '+' && digits(s + 1, 2) == 0 && s[3] == ':' && digits(s + 4, 2) == 0)
        s += 6;
    *ticks =
        (((days_of(part[0], part[1], part[2]) * 24 + part[3]) * 60 + part[4]) * 60 + part[5]) *
            TICKS_PER_S +
        fraction;
    return s;
}

static const char *arrival(struct trace_clock *clock, const struct lines *l, const char *at,
                           double *s)
{
    int64_t ticks = 0;
    const char *stop = parse(at, &ticks);

    if (!stop) {
        line_wrong(l, at, "TIMESTAMP", "must be a time like 2023-11-16 18:17:03.9799600");
        return NULL;
    }
    if (!clock->started)
        clock->first = ticks;
    clock->started = true;
    if (ticks < clock->first) {
        line_error(l, at, "the request arrives before the first one of the file");
        return NULL;
    }
    *s = (double)(ticks - clock->first) / TICKS_PER_S;
    return stop;
}

const struct trace_format trace_azure = {
    .name = "azure",
    .summary = "CSV: TIMESTAMP, ContextTokens, GeneratedTokens",
    .source = "Azure/AzurePublicDataset data/AzureLLMInferenceTrace_*.csv",
    .names = {"TIMESTAMP", "ContextTokens", "GeneratedTokens", NULL},
    .per_s = 1,
    .arrival = arrival,
};
