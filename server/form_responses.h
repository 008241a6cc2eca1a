/* form_responses: answers of POST /v1/responses, whole and as numbered events. Loop thread. */
#ifndef CHORUS_SERVER_FORM_RESPONSES_H
#define CHORUS_SERVER_FORM_RESPONSES_H

#include "server/form.h"

extern const struct form form_responses;

#endif
