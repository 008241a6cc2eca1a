/* version: what `chorus --version`, GET /version and GET /props say. */
#ifndef CHORUS_SERVER_VERSION_H
#define CHORUS_SERVER_VERSION_H

#define CHORUS_VERSION "0.1.0"

#endif
