import { ALL_RULES, playHistory } from './protocol-model.ts'
import { it } from 'vitest'
it('rates', () => {
const N=Number(process.env.N ?? 20000)
const rules={...ALL_RULES, foreignRow:false}
const tries:any[]=[{},{failoverToTaking:1},{failoverToTaking:1,owners:3,takeover:0.1},{failoverToTaking:1,owners:2,takeover:0.1,crash:0,failover:0.05},{failoverToTaking:1,owners:2,takeover:0.1,crash:0,failover:0.05,pause:0.1,pauseSteps:20},{failoverToTaking:1,owners:2,takeover:0.1,crash:0,failover:0.05,flush:0.15,blind:0.2},{failoverToTaking:1,owners:2,takeover:0.1,crash:0,failover:0.05,flush:0.15,blind:0.2,evict:0.5,compact:0.3, steps:300},
{failoverToTaking:1,owners:2,takeover:0.05,crash:0,failover:0.03,flush:0.15,blind:1,evict:0.5,compact:0.1, steps:400, checkpoint:0.5}]
for(const w of tries){ const c:any={}; const first:number[]=[]; for(let s=1;s<=N;s++){ const v=playHistory(s,rules,w); c[v]=(c[v]??0)+1; if(v!=='right'&&first.length<5) first.push(s)} console.log('R',JSON.stringify(w), JSON.stringify(c), first.join(',')) }
}, 600000)
