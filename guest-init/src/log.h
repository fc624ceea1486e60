/* Messages to the kernel log, which the serial console shows. Never request data: it may hold secrets. */
#ifndef BERTH_LOG_H
#define BERTH_LOG_H

void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
