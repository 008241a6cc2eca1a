/* form_messages: answers in Anthropic's form, whole and as events. Loop thread. */
#ifndef CHORUS_SERVER_FORM_MESSAGES_H
#define CHORUS_SERVER_FORM_MESSAGES_H

#include "server/form.h"

extern const struct form form_messages;

#endif
