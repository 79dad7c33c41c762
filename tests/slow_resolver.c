/* What if the resolver hangs? Preloaded, this getaddrinfo sleeps a minute over every name below `slow.test`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int resolver(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	if (name && strstr(name, "slow.test")) {
		sleep(60);
		return EAI_AGAIN;
	}
	return ((resolver *)dlsym(RTLD_NEXT, "getaddrinfo"))(name, service, hints, result);
}
