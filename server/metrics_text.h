/* metrics_text: the Prometheus text format (0.0.4): heads, values, labels, histograms. A family is
 * one head and then all of its series. */
#ifndef CHORUS_SERVER_METRICS_TEXT_H
#define CHORUS_SERVER_METRICS_TEXT_H

#include "engine/base/histogram.h"
#include "engine/base/strbuf.h"

/* `type` is "counter" (then the name ends in _total), "gauge", "histogram" or "summary". */
void metrics_text_head(struct strbuf *b, const char *name, const char *type, const char *help);
/* A family of one series without labels. */
void metrics_text_value(struct strbuf *b, const char *name, const char *type, const char *help,
                        double value);
/* A label's value in its quotes. Any bytes: what is no UTF-8 becomes U+FFFD. */
void metrics_text_quoted(struct strbuf *b, const char *value);
void metrics_text_histogram(struct strbuf *b, const char *name, const char *help,
                            const struct histogram *h, const struct histogram_bounds *bounds);

#endif
