// The part of the WebAssembly API that module.ts uses; Node's own types leave it to the browser's.
declare namespace WebAssembly {
  class Module {
    constructor(bytes: Uint8Array)
  }
  function validate(bytes: Uint8Array): boolean
  class Instance {
    constructor(module: Module, imports: object)
    readonly exports: object
  }
  interface Memory {
    readonly buffer: ArrayBuffer
  }
  interface Global {
    readonly value: number
  }
}
