/* Characters: how wide they are, their bytes, and what stands for them where only ASCII can be
 * shown. */
#ifndef KVBUDGET_TUI_GLYPH_H
#define KVBUDGET_TUI_GLYPH_H

#include <stddef.h>
#include <stdint.h>

/* Columns of a character on a terminal: 0 (combining), 1 or 2. Control characters count 1, as
 * they are shown as '?'. The drawing characters are 1 in every locale. */
int glyph_columns(uint32_t cp);

/* A printable ASCII character in place of `cp`; '?' where nothing resembles it. */
char glyph_ascii(uint32_t cp);

/* The bytes of a character, with a terminator; returns how many. */
size_t glyph_utf8(uint32_t cp, char out[5]);

#endif
