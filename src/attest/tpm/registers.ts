/**
 * Where the measurements of a VM are in a TPM. PCRs 0 to 7 belong to the firmware; these four are written by Berth and stand
 * for RTMR0 to RTMR3. None of them can be reset without a reset of the machine.
 */
export const registerPcrs = [8, 9, 12, 14] as const;

/** PCRs of the firmware that are quoted: its code, the boot loader, secure boot. */
const firmwarePcrs = [0, 4, 7] as const;

/** What a quote covers, ascending. No more than seven: tpm2_checkquote 5.4 cannot check a list of eight. */
export const quotedPcrs = [...firmwarePcrs, ...registerPcrs] as const;
