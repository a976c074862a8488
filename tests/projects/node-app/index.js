const ms = require('ms');

console.log(`hello from node, a day has ${ms('1d')} ms`);
