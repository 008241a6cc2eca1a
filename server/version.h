/* version: what `chorus --version`, GET /version and GET /props say; the date is the manual's. */
#ifndef CHORUS_SERVER_VERSION_H
#define CHORUS_SERVER_VERSION_H

#define CHORUS_VERSION "0.1.0"
#define CHORUS_DATE    "2026-11-23"

#endif
