/** The login: all there is to see for whoever has no token. */

import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { Operator } from "./operator.js";
import { useValue } from "./value.js";

/** The page. */
export function Login({ operator }: { readonly operator: Operator }) {
  const id = useId();
  const why = useValue(operator.why);
  const [secret, setSecret] = useState("");
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  const login = async () => {
    setBusy(true);
    setError(await operator.login(secret.trim()));
    setBusy(false);
  };
  return (
    <main class="login">
      <form
        class="box stack"
        onSubmit={(event) => {
          event.preventDefault();
          void login();
        }}
      >
        <div class="brand">
          <img src="/static/icon.svg" alt="" width="32" height="32" />
          <h1>
            syncd <span>dashboard</span>
          </h1>
        </div>
        <div class="field">
          <label for={id}>API key or admin token</label>
          <input
            id={id}
            name="secret"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            ref={field}
            value={secret}
            onInput={(event) => setSecret(event.currentTarget.value)}
          />
        </div>
        <p class="error" role="alert">
          {error ?? why}
        </p>
        <button type="submit" class="primary" disabled={isBusy || secret.trim() === ""}>
          {isBusy ? "Looking…" : "Log in"}
        </button>
        <p class="soft">
          It is exchanged for a token that ends by itself. That one alone is kept, in this tab, until you log
          out.
        </p>
      </form>
    </main>
  );
}
