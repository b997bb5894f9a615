/* Writing a document as YAML that reads back as the same tree: maps in block style, lists of
 * plain scalars on one line. What a text looks like decides whether it is quoted, so a quoted
 * number stays a text and a plain one a number; comments are not part of a document. */
#ifndef KVBUDGET_PLANNER_DOC_EMIT_H
#define KVBUDGET_PLANNER_DOC_EMIT_H

#include <stdio.h>

#include "planner/doc/doc.h"

/* `root` is a map or a list. */
void doc_emit(const struct doc_node *root, FILE *out);

/* The same as text in `a`. */
char *doc_emit_text(struct arena *a, const struct doc_node *root);

/* A text as one YAML value, quoted where it would read as something else. */
char *doc_emit_scalar(struct arena *a, const char *text);

#endif
