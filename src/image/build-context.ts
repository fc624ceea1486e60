import type { Recipe } from './recipe.ts';

/** What every phase of a build is given. */
export interface BuildContext {
  readonly recipe: Recipe;
  /** Scratch directory of this build alone. */
  readonly work: string;
  /** The root file system as a directory, owned as it will be in the guest. */
  readonly root: string;
  readonly signal: AbortSignal;
  /** Says what the phase is doing now. */
  readonly detail: (text: string) => void;
}
