/* form_chat: chat and text completions, whole and in chunks (answer.h). Loop thread. */
#ifndef CHORUS_SERVER_FORM_CHAT_H
#define CHORUS_SERVER_FORM_CHAT_H

#include "server/form.h"

extern const struct form form_chat;
extern const struct form form_chat_completion;

#endif
