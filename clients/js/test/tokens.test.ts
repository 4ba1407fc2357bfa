import { describe, expect, it } from "vitest";
import { Driver, states } from "./driver.ts";

describe("tokens", () => {
  const withSource = () => new Driver({ hasTokenSource: true });

  it("are asked for before the first dial", () => {
    const driver = withSource();
    driver.core.connect(0);
    expect(driver.actions()).toEqual(["ask-token"]);
    driver.core.tokenSupplied(0, "t1");
    driver.core.connectSucceeded();
    expect(driver.sent()).toEqual([["hello", expect.objectContaining({ token: "t1" })]]);
  });

  it("are asked for anew once when one is refused; then the application is waited for", () => {
    const driver = withSource();
    driver.core.connect(0);
    driver.core.tokenSupplied(0, "t1");
    driver.take();
    driver.lose(4401, "expired");
    expect(driver.core.state).toBe("needs-auth");
    expect(driver.actions()).toEqual(["ask-token"]);
    driver.core.tokenSupplied(0, "t1");
    driver.lose(4401, "expired");
    expect(driver.core.state).toBe("needs-auth");
    driver.take();
    driver.pass(3_600_000);
    expect(driver.actions()).toEqual([]);
    driver.core.connect(driver.now);
    expect(driver.actions()).toEqual(["ask-token"]);
    driver.core.tokenSupplied(driver.now, "t2");
    driver.welcome();
    expect(driver.core.state).toBe("connected");
  });

  /** One is refused, the dial with the next one fails, and the dial after that is refused, too, so much later. */
  const askedAnew = (waitMs: number) => {
    const driver = withSource();
    driver.core.connect(0);
    driver.core.tokenSupplied(0, "t1");
    driver.lose(4401, "expired");
    driver.core.tokenSupplied(driver.now, "t2");
    driver.lose(1006, "");
    driver.pass(waitMs);
    driver.take();
    driver.lose(4401, "expired");
    expect(driver.actions()).toEqual(["ask-token"]);
    return driver;
  };

  it("are asked for anew when the one that is refused has had the time to run out", () => {
    // Fetched before the network went, and told after it came back: seen in the simulation as a tab that waits for ever.
    askedAnew(60_000);
  });

  it("are asked for anew when the one that is refused was fetched for a dial that failed", () => {
    const driver = askedAnew(500);
    driver.core.tokenSupplied(driver.now, "t3");
    driver.take();
    driver.lose(4401, "expired");
    expect([driver.core.state, driver.actions()]).toEqual(["needs-auth", []]);
  });

  it("may be had later: then the question comes again, with backoff", () => {
    const driver = withSource();
    driver.core.connect(0);
    driver.take();
    driver.core.tokenUnavailable(0, "the network");
    expect(states(driver)).toEqual([expect.objectContaining({ state: "offline", reason: "the network" })]);
    driver.pass(500);
    expect(driver.actions()).toEqual(["ask-token"]);
    expect(driver.core.state).toBe("needs-auth");
  });

  it("may not be there at all: then setting one goes on", () => {
    const driver = withSource();
    driver.core.connect(0);
    driver.core.tokenMissing();
    driver.pass(3_600_000);
    expect(driver.core.state).toBe("needs-auth");
    driver.core.tokenSupplied(driver.now, "t1");
    expect(driver.core.state).toBe("connecting");
  });

  it("are replaced in place, and told after a hello that did not know of them", () => {
    const driver = withSource();
    driver.core.connect(0);
    driver.core.tokenSupplied(0, "t1");
    driver.core.connectSucceeded();
    driver.core.tokenSupplied(0, "t2");
    driver.take();
    driver.receive([
      "welcome",
      { clients: [{ client: "c", secret: "s" }], ping_ms: 1, max_frame_bytes: 65_536 },
    ]);
    expect(driver.sent()).toEqual([["auth", expect.objectContaining({ token: "t2" })]]);
    driver.core.tokenSupplied(0, "t3");
    expect(driver.sent()).toEqual([["auth", expect.objectContaining({ token: "t3" })]]);
    expect(driver.core.state).toBe("connected");
  });

  it("that are refused without a source of others end the client", () => {
    const driver = new Driver();
    driver.core.connect(0);
    driver.lose(4401, "no");
    expect(driver.core.state).toBe("failed");
    expect(driver.core.error).toMatchObject({ code: 4401 });
  });
});
