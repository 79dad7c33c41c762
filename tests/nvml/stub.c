/* What would NVML answer? A libnvidia-ml.so.1 whose every answer is a line of the file GPU_CANARY_STUB_NVML names.
 *
 * The file is read again on every call, so a test rewrites it while the exporter runs. A line is a key and a value:
 *
 *     count 2                                      cards
 *     driver 570.86.15                             what is not in the file is NVML_ERROR_NOT_SUPPORTED
 *     gpu0.temperature 61
 *     err.nvmlInitWithFlags 18                     this function fails with that NVML_ERROR_*
 *     gpu0.err.nvmlDeviceGetTemperature 15         ... for one card
 *     gpu1.hang.nvmlDeviceGetUtilizationRates 60   it sleeps that long, or until the line is gone
 *     gpu1.lost 1                                  every call fails with "GPU is lost"
 *     gpu0.processes compute:4242:1073741824 graphics:77:0
 *     gpu0.work 4242:60                            percent of the card within the last second, by pid
 *     event1 0 79                                  XID 79 on card 0; event2, event3, ... follow, each told once
 *
 * Structs follow NVIDIA's nvml.h (https://docs.nvidia.com/deploy/nvml-api/).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, LOST = 15 };
enum { CARDS = 16, XID_EVENT = 8, RECOVERY_ACTION = 230 };

typedef unsigned long long u64;
typedef struct { int index; } *Device; /* opaque to the caller, as the real one is */

static struct { int index; } devices[CARDS];
static int next_event;

/* ---- the file ------------------------------------------------------------------------------------------------- */

static int look_up(const char *key, char *value, size_t size) {
    const char *path = getenv("GPU_CANARY_STUB_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[4096];
    size_t length = strlen(key);
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static int text(Device device, const char *key, char *value, size_t size) {
    char full[256];
    if (device) snprintf(full, sizeof full, "gpu%d.%s", device->index, key);
    else snprintf(full, sizeof full, "%s", key);
    return look_up(full, value, size);
}

static int number(Device device, const char *key, u64 *value) {
    char word[64];
    if (!text(device, key, word, sizeof word)) return NOT_SUPPORTED;
    *value = strtoull(word, NULL, 0);
    return OK;
}

/* What every call does first: hang, be lost, or fail as it is told. */
static int enter(Device device, const char *function) {
    char key[128];
    u64 seconds, code = OK, lost = 0;
    snprintf(key, sizeof key, "hang.%s", function);
    for (int slept = 0; number(device, key, &seconds) == OK && slept < (int)seconds * 50; slept++) usleep(20000);
    if (device && number(device, "lost", &lost) == OK && lost) return LOST;
    snprintf(key, sizeof key, "err.%s", function);
    number(device, key, &code);
    return (int)code;
}

#define ENTER(device) do { int code_ = enter(device, __func__); if (code_) return code_; } while (0)

static int copy(Device device, const char *key, char *out, unsigned size) {
    return text(device, key, out, size) ? OK : NOT_SUPPORTED;
}

static int small(Device device, const char *key, unsigned *out) {
    u64 value = 0;
    int code = number(device, key, &value);
    if (code == OK) *out = (unsigned)value;
    return code;
}

static int choose(Device device, const char *const *names, unsigned count, unsigned which, unsigned *out) {
    return which < count && names[which] ? small(device, names[which], out) : INVALID;
}

/* ---- the system ----------------------------------------------------------------------------------------------- */

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    ENTER(NULL);
    for (int i = 0; i < CARDS; i++) devices[i].index = i;
    return OK;
}

int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "some NVML error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { ENTER(NULL); return copy(NULL, "driver", out, size); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { ENTER(NULL); return small(NULL, "cuda", (unsigned *)out); }
int nvmlDeviceGetCount_v2(unsigned *out) { ENTER(NULL); return small(NULL, "count", out); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) {
    u64 count = 0;
    number(NULL, "count", &count);
    if (index >= count || index >= CARDS) return INVALID;
    ENTER((Device)&devices[index]);
    *out = (Device)&devices[index];
    return OK;
}

/* ---- plain numbers: one key each ------------------------------------------------------------------------------ */

#define NUMBER(function, key) int function(Device device, unsigned *out) { ENTER(device); return small(device, key, out); }
#define WIDE(function, key) int function(Device device, u64 *out) { ENTER(device); return number(device, key, out); }
#define WORD(function, key) \
    int function(Device device, char *out, unsigned size) { ENTER(device); return copy(device, key, out, size); }

WORD(nvmlDeviceGetName, "name")
WORD(nvmlDeviceGetUUID, "uuid")
NUMBER(nvmlDeviceGetPowerUsage, "power") /* milliwatts */
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_enforced_limit")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_limit")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max")
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie_replays")
WIDE(nvmlDeviceGetTotalEnergyConsumption, "energy") /* millijoules */
WIDE(nvmlDeviceGetCurrentClocksEventReasons, "throttle") /* a bit mask */
WIDE(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle_before_535")
WIDE(nvmlDeviceGetSupportedEventTypes, "event_types")

/* ---- numbers that are asked for by an enum -------------------------------------------------------------------- */

int nvmlDeviceGetTemperature(Device device, unsigned sensor, unsigned *out) {
    ENTER(device);
    return sensor == 0 ? small(device, "temperature", out) : INVALID;
}

int nvmlDeviceGetTemperatureThreshold(Device device, unsigned which, unsigned *out) {
    static const char *const names[] = {"shutdown_limit", "slowdown_limit", "memory_limit", "gpu_limit"};
    ENTER(device);
    return choose(device, names, 4, which, out);
}

int nvmlDeviceGetClockInfo(Device device, unsigned which, unsigned *out) {
    static const char *const names[] = {"clock_graphics", "clock_sm", "clock_memory", "clock_video"};
    ENTER(device);
    return choose(device, names, 4, which, out);
}

int nvmlDeviceGetMaxClockInfo(Device device, unsigned which, unsigned *out) {
    static const char *const names[] = {"clock_max_graphics", "clock_max_sm", "clock_max_memory", "clock_max_video"};
    ENTER(device);
    return choose(device, names, 4, which, out);
}

int nvmlDeviceGetTotalEccErrors(Device device, unsigned uncorrected, unsigned aggregate, u64 *out) {
    char key[64];
    ENTER(device);
    snprintf(key, sizeof key, "ecc_%s_%s", uncorrected ? "uncorrected" : "corrected", aggregate ? "aggregate" : "volatile");
    return number(device, key, out);
}

/* ---- structs -------------------------------------------------------------------------------------------------- */

typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { u64 total, free, used; } Memory;
typedef struct { unsigned version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { unsigned version; int margin; } Margin;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } Pci;
typedef struct { unsigned pid; u64 memory; unsigned instance, compute_instance; } Process;
typedef struct { unsigned field, scope; int64_t at, latency; unsigned type; int code; union { unsigned u; u64 wide; } value; } Field;
typedef struct { Device device; u64 type, data; unsigned instance, compute_instance; } Event;

int nvmlDeviceGetUtilizationRates(Device device, Utilization *out) {
    ENTER(device);
    out->memory = 0;
    small(device, "memory_utilization", &out->memory);
    return small(device, "utilization", &out->gpu);
}

int nvmlDeviceGetMemoryInfo(Device device, Memory *out) {
    ENTER(device);
    if (number(device, "memory_total", &out->total) || number(device, "memory_used", &out->used)) return NOT_SUPPORTED;
    out->free = out->total - out->used;
    return OK;
}

int nvmlDeviceGetMemoryInfo_v2(Device device, MemoryV2 *out) {
    ENTER(device);
    if (number(device, "memory_reserved", &out->reserved) || number(device, "memory_total", &out->total) ||
        number(device, "memory_used", &out->used))
        return NOT_SUPPORTED;
    out->free = out->total - out->used - out->reserved;
    return OK;
}

int nvmlDeviceGetMarginTemperature(Device device, Margin *out) {
    ENTER(device);
    return small(device, "temperature_margin", (unsigned *)&out->margin);
}

int nvmlDeviceGetPciInfo_v3(Device device, Pci *out) {
    ENTER(device);
    memset(out, 0, sizeof *out);
    return copy(device, "pci", out->bus_id, sizeof out->bus_id);
}

int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    ENTER(device);
    *pending = 0;
    return small(device, "mig", current);
}

int nvmlDeviceGetRemappedRows(Device device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    ENTER(device);
    if (small(device, "remap_corrected", corrected)) return NOT_SUPPORTED;
    *uncorrected = *pending = *failed = 0;
    small(device, "remap_uncorrected", uncorrected);
    small(device, "remap_pending", pending);
    small(device, "remap_failure", failed);
    return OK;
}

int nvmlDeviceGetFieldValues(Device device, int count, Field *fields) {
    ENTER(device);
    for (int i = 0; i < count; i++)
        fields[i].code = fields[i].field == RECOVERY_ACTION ? small(device, "recovery_action", &fields[i].value.u) : NOT_SUPPORTED;
    return OK;
}

static int processes(Device device, const char *kind, unsigned *count, Process *out) {
    char line[2048];
    unsigned found = 0, room = out ? *count : 0;
    if (!text(device, "processes", line, sizeof line)) return NOT_SUPPORTED;
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
        unsigned pid;
        u64 memory;
        char is[16];
        if (sscanf(word, "%15[a-z]:%u:%llu", is, &pid, &memory) != 3 || strcmp(is, kind)) continue;
        if (found < room) out[found] = (Process){pid, memory, 0xffffffff, 0xffffffff};
        found++;
    }
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned *count, Process *out) {
    ENTER(device);
    return processes(device, "graphics", count, out);
}

typedef struct { unsigned pid; u64 at; unsigned sm, memory, encoder, decoder; } Work;

int nvmlDeviceGetProcessUtilization(Device device, Work *out, unsigned *count, u64 since) {
    char line[2048];
    unsigned found = 0, room = out ? *count : 0;
    ENTER(device);
    if (!text(device, "work", line, sizeof line)) return NOT_SUPPORTED;
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " ")) {
        unsigned pid, share;
        if (sscanf(word, "%u:%u", &pid, &share) != 2) continue;
        if (found < room) out[found] = (Work){pid, since + 500000, share, 0, 0, 0};
        found++;
    }
    *count = found;
    return !found ? NOT_FOUND : found > room ? INSUFFICIENT_SIZE : OK;
}

/* ---- events --------------------------------------------------------------------------------------------------- */

static int event(int which, unsigned *card, u64 *xid) {
    char key[32], value[64];
    snprintf(key, sizeof key, "event%d", which);
    return look_up(key, value, sizeof value) && sscanf(value, "%u %llu", card, xid) == 2 && *card < CARDS;
}

int nvmlEventSetCreate(void **set) {
    unsigned card;
    u64 xid;
    ENTER(NULL);
    for (next_event = 1; event(next_event, &card, &xid);) next_event++; /* a set tells only what comes after it */
    *set = &next_event;
    return OK;
}

int nvmlDeviceRegisterEvents(Device device, u64 types, void *set) { (void)types, (void)set; ENTER(device); return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }

int nvmlEventSetWait_v2(void *set, Event *out, unsigned milliseconds) {
    unsigned card;
    u64 xid;
    (void)set;
    ENTER(NULL);
    if (!event(next_event, &card, &xid)) { usleep(milliseconds * 1000); return TIMEOUT; }
    next_event++;
    *out = (Event){(Device)&devices[card], XID_EVENT, xid, 0xffffffff, 0xffffffff};
    return OK;
}
