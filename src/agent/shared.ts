/**
 * Makes something once at a time, however many ask for it. Who asks while it is being made shares the next with all others who
 * wait, so what anybody is given was begun after he asked.
 */
export function shared<T>(make: () => Promise<T>): () => Promise<T> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<T> | null = null;
  return () => {
    if (next !== null) return next;
    const made = running.then(() => {
      next = null;
      return make();
    });
    next = made;
    running = made.catch(() => {});
    return made;
  };
}
