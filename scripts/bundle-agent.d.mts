/** Puts the guest agent into one file. */
export declare function bundleAgent(file: string): Promise<void>;
