/* Figures as the report prints them, for the screens. Each writes to a buffer of SHOW_TEXT
 * bytes and returns it. */
#ifndef KVBUDGET_TUI_SHOW_H
#define KVBUDGET_TUI_SHOW_H

#include "planner/plan/capacity.h"

enum { SHOW_TEXT = 40 };

const char *show_bytes(uint64_t bytes, char buf[SHOW_TEXT]);
const char *show_count(uint64_t n, char buf[SHOW_TEXT]);
const char *show_seconds(double s, char buf[SHOW_TEXT]);
const char *show_per_s(double per_s, char buf[SHOW_TEXT]); /* 7,498 or 31.4 */
/* A count that a limit may be absent for: "no limit". */
const char *show_most(uint64_t n, enum limit why, char buf[SHOW_TEXT]);
const char *show_times(double v, double of, char buf[SHOW_TEXT]);  /* 0.25x; "" of 0 */
const char *show_change(double v, double of, char buf[SHOW_TEXT]); /* +12.5 %, same */

/* For axes: short, without blanks. */
void show_tick_tokens(double v, char *buf, size_t n);  /* 128k */
void show_tick_count(double v, char *buf, size_t n);   /* 1.5k, 20M */
void show_tick_bytes(double v, char *buf, size_t n);   /* 40 GiB */
void show_tick_seconds(double v, char *buf, size_t n); /* 20 ms */

#endif
