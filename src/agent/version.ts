/**
 * The version of the dstack guest agent whose API this is: clients ask for it to learn what they may call. Berth's own
 * version is the revision.
 */
export const agentVersion = { version: '0.5.8', rev: 'berth-0.1.0' } as const;

/** As the HTTP port's header has it. */
export const appVersionHeader = `v${agentVersion.version} (git:${agentVersion.rev})`;
